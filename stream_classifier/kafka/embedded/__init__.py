"""A real Apache Kafka for development: one or more brokers from a Java in a wheel and the jars of Maven Central."""

from stream_classifier.kafka.embedded.cluster import EmbeddedCluster
from stream_classifier.kafka.embedded.java import KAFKA_VERSION
from stream_classifier.kafka.embedded.tools import tool_command

__all__ = ["KAFKA_VERSION", "EmbeddedCluster", "tool_command"]
