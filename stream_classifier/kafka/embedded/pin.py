"""Write `jars.json` for another version of Kafka: `python -m stream_classifier.kafka.embedded.pin 4.3.1`.

Needs the network. Read the difference before it is committed: what this trusts, every user trusts from then on.
"""

import hashlib
import sys
import tempfile
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from stream_classifier.kafka.embedded.jars import Pins
from stream_classifier.kafka.embedded.unavailable import require_extra

# Without a binding of slf4j Kafka logs nothing; 1.7 is the line that its jars are built against.
_SLF4J_BINDING = "org.slf4j:slf4j-simple:1.7.36"


def pin(version: str) -> Pins:
    """Resolve a version of Kafka and all that it needs to run, download it and hash it."""
    with tempfile.TemporaryDirectory() as repository:
        context = require_extra("jgo.maven").MavenContext(repo_cache=Path(repository), timeout=60)
        roots = [context.create_dependency(root) for root in (f"org.apache.kafka:kafka_2.13:{version}", _SLF4J_BINDING)]
        for root in roots:
            root.scope = "compile"
        given, transitive = context.resolver.resolve(roots)
        needed = [*given, *(each for each in transitive if each.scope in {"compile", "runtime"})]
        tools = context.create_dependency(f"org.apache.kafka:kafka-tools:{version}")
        return Pins(
            kafka=version,
            broker=_sums(each.artifact for each in needed),
            tools=_sums([tools.artifact]),
        )


def _sums(artifacts: Iterable[Any]) -> dict[str, str]:
    return {
        f"{each.groupId}:{each.artifactId}:{each.version}": hashlib.sha256(each.resolve().read_bytes()).hexdigest()
        for each in artifacts
    }


if __name__ == "__main__":
    (_, wanted) = sys.argv
    pins = pin(wanted)
    target = Path(str(files("stream_classifier.kafka.embedded").joinpath("jars.json")))
    target.write_text(pins.model_dump_json(indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(pins.broker) + len(pins.tools)} jars of Apache Kafka {pins.kafka} in {target}\n")
