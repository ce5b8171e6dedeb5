"""`stream-classifier broker`: a real Apache Kafka in the foreground, for development."""

import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from stream_classifier.errors import EmbeddedKafkaError
from stream_classifier.kafka.embedded import KAFKA_VERSION, EmbeddedCluster

_POLL_SECONDS = 0.2


def broker(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where the first broker listens on 127.0.0.1; 0: any free port.")
    ] = 9092,
    brokers: Annotated[int, typer.Option(min=1, max=9, help="How many; three survive the loss of one.")] = 1,
    data: Annotated[
        Path | None, typer.Option(file_okay=False, help="Keep topics here for the next time. Without it: forgotten.")
    ] = None,
) -> None:
    """Run a real Apache Kafka for development, in the foreground, until Ctrl-C.

    Example: stream-classifier broker --data ./kafka-data
    """
    # From here on both signals unwind the `with` below, also while Kafka is being fetched or started; a second one
    # interrupts the orderly end, which then is a kill.
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell starts what is in its background deaf to SIGINT
        signal.signal(stop, signal.default_int_handler)
    cluster = EmbeddedCluster(brokers, data, port or None, progress=lambda line: typer.echo(line, err=True))
    try:
        with cluster:
            _introduce(cluster, brokers, data)
            while not cluster.dead:
                time.sleep(_POLL_SECONDS)
            raise EmbeddedKafkaError(_obituary(cluster))
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)


def _introduce(cluster: EmbeddedCluster, brokers: int, data: Path | None) -> None:
    typer.echo(
        f"Apache Kafka {KAFKA_VERSION} ({brokers} broker{'s' if brokers > 1 else ''}) listens on "
        f"{cluster.bootstrap_servers}\n"
        "Use it from another terminal:\n"
        f"  export STREAM_CLASSIFIER_KAFKA__BOOTSTRAP_SERVERS={cluster.bootstrap_servers}\n"
        f"{f'Topics are kept in {data}.' if data else 'Topics are forgotten at the end; --data DIR keeps them.'}\n"
        "Ctrl-C stops it."
    )


def _obituary(cluster: EmbeddedCluster) -> str:
    number = cluster.dead[0]
    lines = [line for line in cluster.log(number).splitlines() if "ERROR" in line or "FATAL" in line]
    cause = f" ({lines[-1].strip()})" if lines else ""
    return f"Broker {number} ended by itself{cause}: start it again; was it killed, or is the disk full?"
