"""What every test can ask for."""

from broker import bootstrap_servers, make_topic, name_topic, pytest_addoption

__all__ = ["bootstrap_servers", "make_topic", "name_topic", "pytest_addoption"]
