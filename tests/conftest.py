"""What every test can ask for."""

import pytest
from broker import bootstrap_servers, make_topic, name_topic, pytest_addoption

__all__ = ["bootstrap_servers", "delivery", "make_topic", "name_topic", "pytest_addoption"]


@pytest.fixture(params=["at_least_once", "exactly_once"])
def delivery(request: pytest.FixtureRequest) -> str:
    """Both modes of delivery: a test that asks for it runs in each."""
    return str(request.param)
