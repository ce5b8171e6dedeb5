"""What the GPUs are doing, read from their driver whenever Prometheus asks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LABELS = ("device",)
_PREFIX = "stream_classifier_device_"


class DeviceMetrics(Collector):
    """Gauges of the GPUs that a worker runs on: how busy they are, and their memory.

    The memory is the whole GPU's, other processes' included: what runs out is that.

    Args:
        gpus: Their numbers, as `model.device_ids` has them.
    """

    def __init__(self, gpus: Sequence[int]) -> None:
        self._gpus = gpus
        self._driver = _driver()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """What prometheus_client asks for; without NVML there is nothing to tell."""
        busy = GaugeMetricFamily(_PREFIX + "busy_ratio", "Share of the last moment in which it ran.", labels=LABELS)
        used = GaugeMetricFamily(_PREFIX + "memory_used_bytes", "Memory that is taken.", labels=LABELS)
        total = GaugeMetricFamily(_PREFIX + "memory_total_bytes", "Memory that it has.", labels=LABELS)
        if self._driver is not None:
            for gpu in self._gpus:
                # A driver that does not answer leaves a gap in the graph; the worker has its own way to notice.
                with contextlib.suppress(self._driver.NVMLError):
                    handle = self._driver.nvmlDeviceGetHandleByIndex(gpu)
                    memory = self._driver.nvmlDeviceGetMemoryInfo(handle)
                    name = f"cuda:{gpu}"
                    busy.add_metric([name], self._driver.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
                    used.add_metric([name], memory.used)
                    total.add_metric([name], memory.total)
        return (busy, used, total)


def _driver() -> Any:  # noqa: ANN401 - a module
    """NVML, ready; None where it is not installed or finds no driver."""
    try:
        import pynvml  # noqa: PLC0415 - of the extra for GPUs
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
