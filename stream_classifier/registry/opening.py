"""The format that the settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_classifier.errors import SettingsError
from stream_classifier.events.cloudevents import CloudEventsForm
from stream_classifier.events.form import PlainForm
from stream_classifier.settings import WITH_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_classifier.events.form import Form
    from stream_classifier.registry.form import SchemaForm
    from stream_classifier.settings import Settings


def open_form(settings: Settings, retried: Callable[[], object]) -> Form:
    """Get ready to read and to write events.

    Args:
        settings: Everything that can be set.
        retried: Is called when the schema registry has to be asked again, in another thread.

    Raises:
        SettingsError: The extra `schema-registry` is not installed, or its client does not take the properties.
    """
    if settings.input.format in WITH_SCHEMA:
        return open_schema_form(settings, retried)
    return CloudEventsForm(settings) if settings.input.format == "cloudevents" else PlainForm(settings)


def open_schema_form(settings: Settings, retried: Callable[[], object] = lambda: None) -> SchemaForm:
    """The same for formats that have a schema.

    Raises:
        SettingsError: The extra `schema-registry` is not installed, or its client does not take the properties.
    """
    try:
        from stream_classifier.registry.form import SchemaForm  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise SettingsError(
            f"input.format: {settings.input.format} needs the extra schema-registry ({error.name} is missing): "
            "pip install '.[schema-registry]'"
        ) from None
    return SchemaForm(settings, retried)
