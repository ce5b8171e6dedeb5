"""Kafka's own console tools, as a second opinion about what is in a topic."""

from stream_classifier.kafka.embedded.jars import Progress
from stream_classifier.kafka.embedded.java import provide_java


def tool_command(name: str, *arguments: str, progress: Progress = lambda _: None) -> list[str]:
    """Give the command line of one of Kafka's console tools; it works against any broker.

    Args:
        name: the Java class below `org.apache.kafka.tools`: `consumer.ConsoleConsumer`, `ConsoleProducer`,
            `GetOffsetShell`, `consumer.group.ConsumerGroupCommand`, `TopicCommand`, `DumpLogSegments` ...
        arguments: as its manual has them, `--bootstrap-server` included.
        progress: takes a line when something has to be fetched.

    Raises:
        EmbeddedKafkaError: Java or the jars are missing and cannot be had.
    """
    return provide_java(progress, console_tools=True).command(f"org.apache.kafka.tools.{name}", *arguments)
