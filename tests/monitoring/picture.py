"""Draws the dashboards' panels, for those who cannot open Grafana here, from what Prometheus collected of real workers.

PYTHONPATH=.:tests python -m monitoring.picture docs --seconds 240

Starts a Kafka, three workers with the built-in model, and a Prometheus; publishes the sample tickets, for a while more
of them than the workers can label; then asks Prometheus what the panels ask, and writes a picture of each dashboard.
Grafana draws more finely; the queries, the numbers and the places are the same.
"""

from __future__ import annotations

import argparse
import io
import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from PIL import Image

from monitoring.grafana import headlines, panels, without_variables
from monitoring.prometheus import executable
from monitoring.scene import Scene, Value
from stream_classifier.kafka.embedded import EmbeddedCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

    from monitoring.grafana import Panel
    from monitoring.prometheus import Prometheus, Series

ROOT = Path(__file__).parents[2]
RULES = ROOT / "config" / "prometheus" / "stream-classifier.rules.yml"
SAMPLES = ROOT / "stream_classifier" / "samples"

_COLOURS = {"green": "#3a9e5d", "orange": "#e08b27", "red": "#cf3b3b", "blue": "#3b76cf"}
_LINES = 6  # more make no legend that can be read
_INCHES = (0.62, 0.34)  # of one cell of the grid
_ROWS = 4  # of each dashboard; the others look like these
_QUIET, _BURST = 15, 150  # events a second


def tickets() -> Iterator[Value]:
    """The sample tickets again and again, each text made another one, so that no cache knows it."""
    lines = (SAMPLES / "tickets.jsonl").read_bytes().splitlines()
    for number, line in enumerate(itertools.cycle(lines)):
        try:
            event = orjson.loads(line)
            event["text"] += f" ({number})"
        except (orjson.JSONDecodeError, KeyError, TypeError):  # some are broken on purpose
            yield line
        else:
            yield orjson.dumps(event)


def collect(seconds: float, directory: Path) -> None:
    """Run the scene for so long, and draw a picture of each dashboard into the directory."""
    with tempfile.TemporaryDirectory() as scratch, EmbeddedCluster() as cluster:
        scene = Scene(
            cluster.bootstrap_servers,
            Path(scratch),
            labels=(SAMPLES / "support.yaml").read_text(encoding="utf-8").replace("mode: single", "threshold: 0.25"),
            model=None,
            prometheus=executable("prometheus"),
            rules=[RULES],
            events=tickets(),
            rate=lambda at: _BURST if seconds / 4 < at < seconds / 3 else _QUIET,
        )
        with scene:
            begin = time.time()
            time.sleep(seconds)
            end = time.time()
            for path in sorted((ROOT / "dashboards").glob("*.json")):
                draw(path, scene.prometheus, begin, end, directory / f"dashboard-{path.stem}.png")


def draw(path: Path, prometheus: Prometheus, begin: float, end: float, picture: Path) -> None:
    """Draw the first rows of a dashboard, each panel where it stands."""
    times = {"__rate_interval": "15s", "__range": f"{end - begin:.0f}s"}
    rows = headlines(path)
    height = rows[_ROWS][1] if len(rows) > _ROWS else 1 + max(_bottom(panel) for panel in panels(path))
    figure = Figure(figsize=(24 * _INCHES[0], height * _INCHES[1]), dpi=80)
    for title, y in rows[:_ROWS]:
        figure.text(0.3 / 24, 1 - (y + 0.9) / height, title, fontsize=11, color="#555555")
    for panel in panels(path):
        place = panel.document["gridPos"]
        if _bottom(panel) > height:
            continue
        # Room for titles, and for the numbers at the axes.
        axes = figure.add_axes(
            (
                (place["x"] + 1.4) / 24,
                1 - (place["y"] + place["h"] - 1) / height,
                (place["w"] - 1.8) / 24,
                (place["h"] - 2.3) / height,
            )
        )
        axes.set_title(panel.title, fontsize=9, loc="left", fontweight="bold")
        found = [
            (legend, one)
            for expression, legend in panel.queries
            for one in prometheus.between(without_variables(expression, times), begin, end)
        ]
        if found:
            _KINDS[panel.kind](axes, panel, found)
        else:
            nothing = panel.document["fieldConfig"]["defaults"].get("noValue", "No data")
            axes.text(0.5, 0.4, nothing, ha="center", va="center", fontsize=9, color="#888888")
            axes.set_axis_off()
    scratch = io.BytesIO()
    figure.savefig(scratch)
    Image.open(scratch).convert("RGB").quantize(128).save(picture, optimize=True)


def _bottom(panel: Panel) -> int:
    place = panel.document["gridPos"]
    return int(place["y"] + place["h"])


def written(number: float, unit: str) -> str:
    """A number as Grafana would write it, nearly."""
    if unit == "percentunit":
        return f"{number:.1%}"
    if unit == "s":
        scale, name = next(
            (scale, name) for scale, name in ((60, "min"), (1, "s"), (0.001, "ms")) if number >= scale or name == "ms"
        )
        return f"{number / scale:.3g} {name}"
    if unit == "bytes":
        return f"{number / 2**20:.0f} MiB"
    ending = unit.removeprefix("suffix:") if unit.startswith("suffix:") else ""
    return f"{number:,.0f}{ending}" if number >= 100 else f"{number:.3g}{ending}"


def _values(series: Series) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    pairs = np.array([(float(at), float(text)) for at, text in series["values"]])
    return pairs[:, 0], pairs[:, 1]


def _named(legend: str, series: Series) -> str:
    for label, content in series["metric"].items():
        legend = legend.replace(f"{{{{{label}}}}}", content)
    return legend


def _number(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    number = _values(found[0][1])[1][-1]
    colour = "black"
    steps = panel.document["fieldConfig"]["defaults"]["thresholds"]["steps"]
    for step in steps if len(steps) > 1 else ():
        if step["value"] is None or number >= step["value"]:
            colour = _COLOURS[step["color"]]
    axes.text(0.5, 0.4, written(number, panel.unit), ha="center", va="center", fontsize=16, color=colour)
    axes.set_axis_off()


def _over_time(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    begin = min(_values(one)[0][0] for _, one in found)
    ranked = sorted(found, key=lambda pair: -float(np.nanmax(_values(pair[1])[1], initial=0)))
    custom = panel.document["fieldConfig"]["defaults"]["custom"]
    if custom["stacking"]["mode"] == "normal":
        instants = np.unique(np.concatenate([_values(one)[0] for _, one in ranked]))
        heights = []
        for _, one in ranked:
            at, height = _values(one)
            heights.append(np.nan_to_num(np.interp(instants, at, height, left=0, right=0)))
        names = [_named(legend, one) for legend, one in ranked]
        axes.stackplot(instants - begin, heights, labels=names[:_LINES] + [""] * (len(names) - _LINES), alpha=0.7)
    else:
        for place, (legend, one) in enumerate(ranked):
            at, height = _values(one)
            axes.plot(at - begin, height, linewidth=1, label=_named(legend, one) if place < _LINES else "")
    top = axes.get_ylim()[1]
    for step in panel.document["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]:
        if step["value"] <= top:
            axes.axhline(step["value"], color=_COLOURS[step["color"]], linestyle="--", linewidth=0.8)
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(lambda number, _: written(number, panel.unit))
    _minutes(axes)
    axes.legend(fontsize=6, loc="best", framealpha=0.6)


def _bars(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    lengths = {_named(legend, one): _values(one)[1][-1] for legend, one in found}
    ranked = sorted((length, name) for name, length in lengths.items() if length > 0)
    axes.barh([name for _, name in ranked], [length for length, _ in ranked], color=_COLOURS["blue"])
    axes.xaxis.set_major_formatter(lambda number, _: written(number, panel.unit))
    axes.tick_params(labelsize=6)
    axes.tick_params(axis="y", direction="in", pad=-4)
    for label in axes.get_yticklabels():
        label.set_horizontalalignment("left")


def _heat(axes: Axes, panel: Panel, found: list[tuple[str, Series]]) -> None:
    del panel  # its numbers are counts
    ranked = sorted((one for _, one in found), key=lambda one: float(one["metric"]["le"]))
    instants = _values(ranked[0])[0]
    cumulated = np.array([np.interp(instants, *_values(one)) for one in ranked])
    counts = np.diff(cumulated, axis=0, prepend=0)
    axes.imshow(
        counts, aspect="auto", origin="lower", cmap="Blues", extent=(0, instants[-1] - instants[0], 0, len(ranked))
    )
    axes.set_yticks(np.arange(len(ranked)) + 0.5, [f"≤ {one['metric']['le']}" for one in ranked])
    _minutes(axes)


def _minutes(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MultipleLocator(60))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds / 60:.0f} min")
    axes.tick_params(labelsize=6)


_KINDS = {"stat": _number, "timeseries": _over_time, "bargauge": _bars, "heatmap": _heat}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", type=Path, help="where the pictures are written")
    parser.add_argument("--seconds", type=float, default=240, help="how long the workers run")
    arguments = parser.parse_args()
    collect(arguments.seconds, arguments.directory)
