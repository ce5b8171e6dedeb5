"""Pictures as PNG files, drawn by matplotlib, which the extra `report` installs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

import numpy as np

from stream_classifier.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stream_classifier.evaluation.calibration import Reliability
    from stream_classifier.evaluation.results import Evaluation

_CJK_FONTS: Final = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "SimHei",
    "Arial Unicode MS",
)
_NAMED_UP_TO: Final = 100
"""More labels than that have numbers only."""

_LONGEST_NAME: Final = 30


def require() -> None:
    """Refuse where nothing can be drawn, before anything long is begun.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        raise UsageError("--png takes matplotlib: pip install '.[report]'") from None


def draw_confusion(path: Path, evaluations: Sequence[Evaluation]) -> None:
    """Write what the texts of each label got, a picture for each evaluation, side by side.

    Raises:
        UsageError: The file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to import

    size = min(30.0, max(4.0, 0.22 * len(evaluations[0].labels) + 2))
    figure = Figure(figsize=((size + 2) * len(evaluations), size + 1), layout="constrained")
    for place, one in enumerate(evaluations, 1):
        axes = figure.add_subplot(1, len(evaluations), place)
        shares = one.confusion / np.maximum(one.confusion.sum(axis=1, keepdims=True), 1)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        names = _drawable([label.name for label in one.labels])
        if len(names) <= _NAMED_UP_TO:
            axes.set_yticks(range(len(names)), names, fontsize=7, fontfamily=_families())
            axes.set_xticks(range(len(names) + 1), [*names, "nothing"], rotation=90, fontsize=7, fontfamily=_families())
        axes.set_ylabel("label")
        axes.set_xlabel("given")
        axes.set_title(f"accuracy {one.accuracy:.3f}, macro F1 {one.macro_f1:.3f}", fontsize=9)
        figure.colorbar(image, ax=axes, label="share of the label's texts", shrink=0.6)
    _save(figure, path)


def draw_reliability(path: Path, before: Reliability, after: Reliability) -> None:
    """Write whether scores say how often they are right, before and after calibration.

    Raises:
        UsageError: The file cannot be written.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to import

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    for place, (title, found) in enumerate((("before", before), ("after", after)), 1):
        _reliability(figure.add_subplot(1, 2, place), f"{title}: ECE {found.error:.3f}", found)
    _save(figure, path)


def _reliability(axes: Axes, title: str, found: Reliability) -> None:
    some = found.counts > 0
    scores, right = found.scores[some] / found.counts[some], found.right[some] / found.counts[some]
    axes.bar(scores, right, width=0.9 / len(found.counts), color="tab:blue", alpha=0.7)
    axes.plot([0, 1], [0, 1], color="black", linewidth=1)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mean score", ylabel="share that is right", title=title)


def _families() -> list[str]:
    """Fonts that this machine has: matplotlib looks for each character in them, one after the other."""
    from matplotlib import font_manager  # noqa: PLC0415 - an extra, and slow to import

    there = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(font for font in _CJK_FONTS if font in there)]


def _drawable(names: Sequence[str]) -> list[str]:
    """Names that the fonts of this machine can write; of the others the number, as the tables have it."""
    from matplotlib import font_manager  # noqa: PLC0415 - an extra, and slow to import

    known: set[int] = set()
    for family in _families():
        known |= set(font_manager.get_font(font_manager.findfont(family)).get_charmap())
    drawn = []
    for number, name in enumerate(names, 1):
        short = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
        # A dollar sign would begin a formula.
        drawn.append(short.replace("$", r"\$") if all(ord(character) in known for character in short) else str(number))
    return drawn


def _save(figure: Figure, path: Path) -> None:
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None
