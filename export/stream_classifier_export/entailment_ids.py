"""Which logits of a model mean "entailed" and "contradicted"."""

from collections.abc import Mapping

from stream_classifier.errors import ExportError


def entailment_ids(
    names: Mapping[int, str], *, entailment_id: int | None = None, contradiction_id: int | None = None
) -> tuple[int, int]:
    """Finds both by the names of the classes, unless they are given.

    Of a model of two classes, what is not "entailed" is taken for "contradicted".

    Args:
        names: Of each class, as config.json has them.
        entailment_id: Given instead.
        contradiction_id: Given instead.

    Raises:
        ExportError: The names do not say. A guess would be silently wrong.
    """
    entailed = entailment_id if entailment_id is not None else _only(names, "entail")
    contradicted = contradiction_id if contradiction_id is not None else _only(names, "contradict")
    others = [number for number in names if number != entailed]
    if contradicted is None and entailed is not None and len(others) == 1:
        [contradicted] = others
    shown = ", ".join(f"{number}: {name}" for number, name in sorted(names.items()))
    if len(names) < 2:  # noqa: PLR2004 - to be entailed, or not
        raise ExportError(f"the model has one class only ({shown}): it does not tell what entails what")
    if entailed is None or contradicted is None:
        raise ExportError(
            f"the model does not name its classes entailment and contradiction ({shown}): say which they are with"
            " --entailment-id and --contradiction-id"
        )
    if entailed == contradicted or not {entailed, contradicted} <= names.keys():
        raise ExportError(
            f"entailment {entailed} and contradiction {contradicted} are not two of the model's classes ({shown}):"
            " correct --entailment-id and --contradiction-id"
        )
    return entailed, contradicted


def _only(names: Mapping[int, str], beginning: str) -> int | None:
    """The one class whose name begins so."""
    found = [number for number, name in names.items() if name.lower().startswith(beginning)]
    return found[0] if len(found) == 1 else None
