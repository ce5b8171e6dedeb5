"""Label streams of short texts on Apache Kafka with labels chosen in plain words, without training."""

from importlib.metadata import version

__version__ = version("stream-classifier")
