"""Processes that never outlive this one, however it ends.

Linux sends a process its "parent death signal" when the *thread* that forked it ends. So everything is forked from one
thread that lives as long as the process does: a cluster may be started from a thread that is gone a moment later.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

# The signal is asked for by the child itself, before it becomes the program: preexec_fn would run Python code between
# fork and exec, which may deadlock in a process with threads. The parent may have died before the request: then leave.
_DIE_WITH_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
    sys.exit("ERROR prctl(PR_SET_PDEATHSIG): " + os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):
    sys.exit("ERROR the process that started this one is gone")
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"ERROR {sys.argv[2]}: {error.strerror}")
"""

# They would add options to every JVM of this user's, and lines to its output.
_NOT_OURS = frozenset({"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"})


@dataclass(frozen=True)
class _Request:
    command: Sequence[str]
    directory: Path
    log: Path
    append: bool
    process: "Future[subprocess.Popen[bytes]]" = field(default_factory=Future)


class _Launcher(threading.Thread):
    """The thread that forks. A daemon, which ends with the process and not a moment earlier."""

    def __init__(self) -> None:
        super().__init__(name="embedded-kafka-launcher", daemon=True)
        self.requests: queue.SimpleQueue[_Request] = queue.SimpleQueue()

    def run(self) -> None:
        while True:
            request = self.requests.get()
            try:
                with request.log.open("ab" if request.append else "wb") as log:
                    process = subprocess.Popen(  # noqa: S603 - the command is built in this package, without a shell
                        [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *request.command],
                        cwd=request.directory,
                        env={name: value for name, value in os.environ.items() if name not in _NOT_OURS}
                        | {"LC_ALL": "C.UTF-8"},  # else a path that is not ASCII may not be found
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # a terminal's Ctrl-C is for us, who stop things in order
                    )
            except OSError as error:
                request.process.set_exception(error)
            else:
                request.process.set_result(process)


_starting = threading.Lock()
_launcher: _Launcher | None = None


def launch(command: Sequence[str], *, directory: Path, log: Path, append: bool = False) -> "subprocess.Popen[bytes]":
    """Start a program that is killed by the kernel when this process ends.

    Args:
        command: the program, by its path, and its arguments.
        directory: where it runs.
        log: takes what it prints.
        append: add to the log rather than start it anew.

    Raises:
        OSError: the log cannot be written, or no process can be started. A program that cannot be run shows in the
            log, and by its exit status.
    """
    request = _Request(command, directory, log, append)
    _living_launcher().requests.put(request)
    return request.process.result()


def _living_launcher() -> _Launcher:
    global _launcher  # noqa: PLW0603 - one thread for the whole process, whoever asks first
    with _starting:
        if _launcher is None or not _launcher.is_alive():  # a forked child has the object but not the thread
            _launcher = _Launcher()
            _launcher.start()
        return _launcher
