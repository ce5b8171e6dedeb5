"""PromQL for panels. Each metric is looked up in the catalogue: a dashboard cannot ask for one that is not in it.

`$job` and `$instance` are chosen at the top of a dashboard; `$__rate_interval` and `$__range` are Grafana's.
"""

from __future__ import annotations

from stream_classifier.metric_catalogue import catalogue

HELP = {name: metric.help for metric in catalogue() for name in metric.series}
RATE = "$__rate_interval"
RANGE = "$__range"


def series(name: str, **matchers: str) -> str:
    """A selector of a worker's series.

    Args:
        name: Without `stream_classifier_`, if it begins so.
        matchers: A regular expression for each label.

    Raises:
        KeyError: The catalogue does not have it.
    """
    full = name if name in HELP else f"stream_classifier_{name}"
    if full not in HELP:
        raise KeyError(full)
    wanted = {"job": "$job", "instance": "$instance"} | matchers
    inner = ", ".join(f'{label}=~"{value}"' for label, value in wanted.items())
    return f"{full}{{{inner}}}"


def rate(name: str, by: str = "", **matchers: str) -> str:
    """What a counter grows by in a second, summed over workers."""
    return f"{_sum(by)}(rate({series(name, **matchers)}[{RATE}]))"


def increase(name: str, by: str = "", over: str = RANGE, **matchers: str) -> str:
    """What a counter grows by in a time, summed over workers."""
    return f"{_sum(by)}(increase({series(name, **matchers)}[{over}]))"


def total(name: str, by: str = "", **matchers: str) -> str:
    """A gauge summed over workers."""
    return f"{_sum(by)}({series(name, **matchers)})"


def share(part: str, whole: str, *, each: bool = False) -> str:
    """One sum over another one, and 0 rather than nothing where nothing happens.

    Args:
        part: The numerator.
        whole: The denominator.
        each: Whether `whole` is one series, and each of `part` a share of it.
    """
    grouped = " on () group_left ()" if each else ""
    return f"{part} /{grouped} ({whole} > 0) or 0 * {part}"


def quantile(q: float, name: str, by: str = "", **matchers: str) -> str:
    """A quantile of a histogram; nothing rather than NaN where nothing was observed."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({q:g}, sum by ({labels}) (rate({series(name + '_bucket', **matchers)}[{RATE}]))) >= 0"


def mean(name: str, over: str = RATE, **matchers: str) -> str:
    """The mean of a histogram; nothing rather than NaN where nothing was observed."""
    top, below = (f"sum(rate({series(name + end, **matchers)}[{over}]))" for end in ("_sum", "_count"))
    return f"{top} / ({below} > 0)"


def _sum(by: str) -> str:
    return f"sum by ({by}) " if by else "sum"
