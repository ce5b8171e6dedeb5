"""`stream-classifier-export`: a model of PyTorch to a model bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from stream_classifier.last_line import complain, complain_of
from stream_classifier.model.bundle import Precision, Task
from stream_classifier_export.request import Activations, Pooling, Request, Truncation

_NAME = "stream-classifier-export"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def export(
    source: Annotated[
        str, typer.Argument(metavar="MODEL_DIR_OR_ID", help="A model's directory, or its id on the hub.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Directory to write the bundle to.")],
    task: Annotated[Task, typer.Option(help="Compare texts with labels, or ask whether texts entail them.")],
    precision: Annotated[
        Precision, typer.Option(help="int7: fastest on a CPU. fp16: for a GPU. fp32: exact.")
    ] = "int7",
    activations: Annotated[
        Activations, typer.Option(help="With int7: each token scaled by itself, or all by ranges that are measured.")
    ] = "per_token",
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Texts, one a line, to measure static activations on.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the bundle, as results carry it; left out: the last part of the source's.")
    ] = None,
    pooling: Annotated[
        Pooling | None, typer.Option(help="Of similarity; left out: as sentence-transformers' files say.")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option(help="Of similarity: put before every text; left out: the model's default prompt.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Divides cosines (left out: 0.05) or logits (left out: 1).")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(metavar="TOKENS", help="The longest text; left out: as the model's files say.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            help="Of entailment: makes a hypothesis of a label; left out: 'This example is {}.', for StructBERT '{}'."
        ),
    ] = None,
    truncation: Annotated[
        Truncation | None,
        typer.Option(
            help="Of entailment: what a long pair loses its end of; left out: the text, or as StructBERT does."
        ),
    ] = None,
    entailment_id: Annotated[
        int | None, typer.Option(metavar="N", help="The class that means entailed, where the model does not name it.")
    ] = None,
    contradiction_id: Annotated[
        int | None, typer.Option(metavar="N", help="The class that means contradicted, likewise.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="SPDX", help="Of the weights; left out: as the model card says.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Of a model on the hub.")] = None,
    weights_sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="Refuse the weights unless this is their SHA-256.")
    ] = None,
    allow_pickled_weights: Annotated[
        bool, typer.Option("--allow-pickled-weights", help="Take pytorch_model.bin, and tensors only from it.")
    ] = False,
    allow_unfused: Annotated[
        bool, typer.Option("--allow-unfused", help="Take a graph whose attention is not one operator a layer.")
    ] = False,
    limit: Annotated[
        float | None, typer.Option(metavar="X", help="Of the parity gate, instead of the precision's own.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the bundle that is there.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Make a model bundle of a model of PyTorch, and hold it against that model at every stage.

    Example: stream-classifier-export models/nli bundles/nli --task entailment
    """
    del debug  # read before anything can fail, in `main`
    from stream_classifier_export.making import export as export_model  # noqa: PLC0415 - PyTorch takes seconds

    request = Request(
        source=source,
        out=out,
        task=task,
        precision=precision,
        activations=activations,
        calibration=calibration,
        name=name,
        pooling=pooling,
        prefix=prefix,
        temperature=temperature,
        max_length=max_length,
        template=template,
        truncation=truncation,
        entailment_id=entailment_id,
        contradiction_id=contradiction_id,
        licence=licence,
        revision=revision,
        weights_sha256=weights_sha256,
        allow_pickled_weights=allow_pickled_weights,
        allow_unfused=allow_unfused,
        limit=limit,
        force=force,
    )
    export_model(request, progress=lambda line: typer.echo(line, err=True))
    typer.echo(out)


def main() -> None:
    """What the installed command runs."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Exports, and makes a line and an exit code of whatever goes wrong.

    Returns:
        The exit code: 0 done, 1 the model is refused, 2 wrong usage, 130 interrupted.
    """
    debug = "--debug" in arguments
    try:
        return int(app(args=arguments or ["--help"], prog_name=_NAME, standalone_mode=False) or 0)
    except ModuleNotFoundError as error:
        complain(_NAME, f"{error.name} is not installed: run `pip install '.[export,cpu]'`", debug=debug)
        return 1
    except (KeyboardInterrupt, typer.Abort):
        complain(_NAME, "interrupted; nothing was written")
        return 130
    except Exception as error:  # noqa: BLE001 - the last place there is: it becomes a line and an exit code
        return complain_of(error, _NAME, debug=debug, debugging=f"{_NAME} ... --debug")
