"""What every test can ask for."""

import hashlib
import signal
from collections.abc import Iterator
from pathlib import Path

import broker
import pytest
import structlog
from broker import bootstrap_servers, make_topic, name_topic

__all__ = ["bootstrap_servers", "delivery", "make_topic", "name_topic"]

_BROKERS = {"bootstrap_servers", "cluster", "secured", "servers"}  # fixtures that start one
MODES = ("at_least_once", "exactly_once")


def pytest_addoption(parser: pytest.Parser) -> None:
    broker.pytest_addoption(parser)
    parser.addoption("--gpu", action="store_true", help="run the tests in tests/gpu, which take an NVIDIA GPU")
    parser.addoption("--schema-registry", help="URL of a schema registry to test with, instead of one that stands in")
    parser.addoption(
        "--all-modes", action="store_true", help="run every test that has to do with delivery in both modes"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if collection_path.name == "gpu" and not config.getoption("gpu") else None


@pytest.fixture(params=MODES)
def delivery(request: pytest.FixtureRequest) -> str:
    """A mode of delivery; see `pytest_collection_modifyitems`."""
    return str(request.param)


@pytest.fixture(autouse=True)
def _signals_and_logs_of_other_tests() -> Iterator[None]:
    """A command sets both for its whole process, which here is that of the tests; logs, to a stream that will close."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    structlog.reset_defaults()


@pytest.hookimpl(trylast=True)  # after the order was made random
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _leave_in_one_mode(config, items)
    # The files that take the longest come first, so that the processes end at about the same time.
    with_broker = {item.path for item in items if _BROKERS & set(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: ("chaos" not in item.path.parts, item.path not in with_broker))


def _leave_in_one_mode(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave a test in one of the two modes, always the same, unless it is marked `both_modes` or all are wanted.

    The modes share all but the sink, and a worker takes seconds to start: so half of the tests run in each.
    """
    if config.getoption("all_modes"):
        return
    kept = [item for item in items if item.get_closest_marker("both_modes") or _mode(item) in {"", _own(item)}]
    if left_out := set(items) - set(kept):
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = kept


def _mode(item: pytest.Item) -> str:
    """The mode that the fixture `delivery` gives to a test; empty when it gives none."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or "delivery" not in callspec.indices or not isinstance(item, pytest.Function):
        return ""
    from_fixture = "delivery" in item._fixtureinfo.name2fixturedefs and not any(
        "delivery" in str(mark.args[0]) for mark in item.iter_markers("parametrize")
    )
    return str(callspec.params["delivery"]) if from_fixture else ""


def _own(item: pytest.Item) -> str:
    """The one mode of a test: by its name and its other parameters."""
    name = item.nodeid
    for mode in MODES:
        name = name.replace(mode, "")
    return MODES[hashlib.sha256(name.encode()).digest()[0] % 2]
