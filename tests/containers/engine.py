"""The container engine that the check runs on: Docker where one answers, else podman, which needs no daemon.

Podman is set up to work inside a container too, where there is no systemd and limits may not be raised.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from containers.commands import ROOT, SCRATCH, CheckError, attempt, output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_PIP_KEYS = {"cert", "default-timeout", "extra-index-url", "index-url", "proxy", "timeout", "trusted-host"}
# Before it goes on, buildah copies itself to where nobody can write. A busy kernel refuses the last step of that at
# times; what has been built until then is kept.
_SEAL = "sealing memfd copy: Device or resource busy"
_BUILDS = 5
_SERVICE_SECONDS = 30.0
_TICK_SECONDS = 1.0
# runc, since crun takes no hybrid cgroups; few limits, since a container may not raise its own. What podman keeps has a
# place of its own, since some of the images there only go by the names of others.
_PODMAN_SETTINGS = f"""\
[engine]
runtime = "runc"
tmp_dir = "{SCRATCH}/podman"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "netavark"
network_config_dir = "{SCRATCH}/networks"
"""
_PODMAN_STORAGE = f"""\
[storage]
driver = "overlay"
graphroot = "{SCRATCH}/storage"
runroot = "{SCRATCH}/run"
[storage.options.overlay]
skip_mount_home = "true"  # else the place is a mount, which nobody can remove with the rest of build/
"""


def full_name(image: str) -> str:
    """An image's name with its registry, by which every engine finds the same one."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


@dataclass(frozen=True)
class Engine:
    """The command lines of a container engine.

    Attributes:
        name: `docker` or `podman`: its command.
        builder: The command that builds an image, up to its options.
        composer: The command that brings up docker-compose.yml.
        environment: What they run with.
    """

    name: str
    builder: tuple[str, ...]
    composer: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)

    def ask(self, *arguments: str) -> str:
        """Run the engine's command and give what it printed.

        Raises:
            CheckError: It failed.
        """
        return output([self.name, *arguments], self.environment)

    def has(self, image: str) -> bool:
        """Whether there is an image of that name."""
        return attempt([self.name, "image", "inspect", full_name(image)], self.environment) is not None

    def pull(self, image: str) -> bool:
        """Get an image from its registry, if that can be done."""
        return attempt([self.name, "pull", "--quiet", full_name(image)], self.environment) is not None

    def build(self, context: Path, image: str, *options: str, **arguments: str) -> None:
        """Build an image from a directory with a Dockerfile.

        Args:
            context: The directory.
            image: The name that the image gets.
            options: Further ones for the command.
            arguments: The Dockerfile's.

        Raises:
            CheckError: It could not be built.
        """
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        command = [*self.builder, *options, *given, "--tag", full_name(image), str(context)]
        for left in reversed(range(_BUILDS)):
            try:
                output(command, self.environment)
            except CheckError as error:
                if not left or _SEAL not in str(error):
                    raise
            else:
                return

    def compose(self, project: str, *arguments: str, settings: Mapping[str, str]) -> str:
        """Run compose on the repository's docker-compose.yml and give what it printed.

        Raises:
            CheckError: It failed.
        """
        file = ROOT / "docker-compose.yml"
        command = [*self.composer, "--project-name", project, "--file", str(file), *arguments]
        return output(command, {**self.environment, **settings})


@contextmanager
def open_engine() -> Iterator[Engine]:
    """Find an engine that works.

    Raises:
        CheckError: There is none; the message says what to install.
    """
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix="-pip.conf") as pip_settings:
        pip_settings.write(_pip_settings())
        pip_settings.flush()
        secret = f"--secret=id=pip,src={pip_settings.name}"
        with _docker(secret) if attempt(["docker", "info"]) is not None else _podman(secret) as engine:
            yield engine


@contextmanager
def _docker(secret: str) -> Iterator[Engine]:
    yield Engine("docker", ("docker", "build", secret), _composer(), os.environ | {"DOCKER_BUILDKIT": "1"})


@contextmanager
def _podman(secret: str) -> Iterator[Engine]:
    missing = [name for name in ("podman", "buildah", "runc", "debootstrap", "iptables") if not shutil.which(name)]
    if missing or os.geteuid() != 0:
        raise CheckError(
            "no Docker engine answers, and without one this takes root and Debian's packages podman, buildah, runc, "
            "netavark, aardvark-dns, iptables, debootstrap and docker-compose "
            f"(missing: {', '.join(missing) or 'root'})"
        )
    settings, storage, socket = (SCRATCH / name for name in ("containers.conf", "storage.conf", "podman.sock"))
    settings.write_text(_PODMAN_SETTINGS, encoding="utf-8")
    storage.write_text(_PODMAN_STORAGE, encoding="utf-8")
    address = f"unix://{socket}"
    environment = os.environ | {
        "CONTAINERS_CONF": str(settings),
        "CONTAINERS_STORAGE_CONF": str(storage),
        "DOCKER_HOST": address,
    }
    # Whoever this machine trusts, the build has to.
    trust = [f"--volume={_AUTHORITIES}:{_AUTHORITIES}:ro"] if _AUTHORITIES.exists() else []
    builder = ("buildah", "bud", "--format=docker", "--layers", "--isolation=chroot", secret, *trust)
    socket.unlink(missing_ok=True)
    done = threading.Event()
    with (SCRATCH / "podman.log").open("wb") as log:
        command = ["podman", "system", "service", "--time=0", address]
        service = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        ticking = threading.Thread(target=_tick, args=(environment, done))
        try:
            _await(socket, service)
            ticking.start()
            engine = Engine("podman", builder, _composer(), environment)
            yield engine
            engine.ask("image", "prune", "--force")  # what the build before this one has left
        finally:
            done.set()
            if ticking.ident is not None:
                ticking.join()
            service.terminate()
            service.wait()


def _await(socket: Path, service: subprocess.Popen[bytes]) -> None:
    """Wait until podman listens."""
    deadline = time.monotonic() + _SERVICE_SECONDS
    while not socket.exists():
        if service.poll() is not None or time.monotonic() > deadline:
            raise CheckError(f"podman does not serve: {(SCRATCH / 'podman.log').read_text(encoding='utf-8')}")
        time.sleep(0.1)


def _tick(environment: Mapping[str, str], done: threading.Event) -> None:
    """Ask after the containers' health now and then: podman leaves that to systemd's timers."""
    health = "{{if .State.Health.Status}}{{.Id}}{{end}}"
    while not done.wait(_TICK_SECONDS):
        # Any of them may be gone by the time that it is asked after.
        for container in (attempt(["podman", "ps", "--quiet"], environment) or "").split():
            if attempt(["podman", "inspect", "--format", health, container], environment):
                attempt(["podman", "healthcheck", "run", container], environment)


def _composer() -> tuple[str, ...]:
    for command in (("docker", "compose"), ("docker-compose",)):
        if attempt([*command, "version"]) is not None:
            return command
    raise CheckError("there is neither `docker compose` nor docker-compose: install Debian's package docker-compose")


def _pip_settings() -> str:
    """The machine's own pip.conf, as far as it says where packages are."""
    lines = output([sys.executable, "-m", "pip", "config", "list"]).splitlines()
    found = dict(line.split("=", 1) for line in lines)
    wanted = {
        name.rpartition(".")[2]: ast.literal_eval(value)
        for name, value in found.items()
        if name.rpartition(".")[2] in _PIP_KEYS
    }
    indented = {name: value.replace("\n", "\n  ") for name, value in wanted.items()}
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in indented.items())
