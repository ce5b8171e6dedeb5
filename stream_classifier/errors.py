"""Every error that this project raises on purpose; each message says what is wrong and what to do next.

The command line prints one line of them; anything else that is raised is a defect and ends the process with its name.
"""


class StreamClassifierError(Exception):
    """The root: whatever is caught as this was foreseen. Exit code 1."""

    exit_code = 1


class UsageError(StreamClassifierError):
    """Wrong usage or unreadable settings: the user's command or files must change. Exit code 2."""

    exit_code = 2


class SettingsError(UsageError):
    """A settings file, an environment variable or a label set cannot be used as it is."""


class BundleError(StreamClassifierError):
    """A model bundle is missing, incomplete, or not what its manifest says."""


class ExportError(StreamClassifierError):
    """A model cannot be made into a bundle, or what was made of it is not near enough to it."""


class ModelError(StreamClassifierError):
    """The model or the device fails on texts that are known to be good: no event is to blame."""


class OutOfMemoryError(ModelError):
    """One text alone does not fit in the memory of the device."""


class KafkaError(StreamClassifierError):
    """Kafka refused or could not be reached, and trying again will not help without a change."""


class RegistryError(StreamClassifierError):
    """The schema registry cannot be reached, or does not let this worker in."""


class EmbeddedKafkaError(StreamClassifierError):
    """The development broker could not be had or did not start."""


class TooManyRefusedError(StreamClassifierError):
    """More events went to the dead-letter topic than `dead_letter.stop_above` allows."""


class StalledError(StreamClassifierError):
    """Something did not come back within its deadline."""
