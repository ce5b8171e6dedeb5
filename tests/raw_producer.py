"""Produces what the Python client refuses to: a header whose name is not UTF-8. By librdkafka's own C functions."""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka

_TOPIC, _VALUE, _KEY, _HEADER = 1, 4, 5, 9
_CONFIGURATION_OK, _PRODUCER = 0, 0


class _Bytes(ctypes.Structure):
    _fields_ = (("start", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("value", ctypes.c_char_p), ("size", ctypes.c_ssize_t))


class _Part(ctypes.Union):
    _fields_ = (
        ("text", ctypes.c_char_p),
        ("bytes", _Bytes),
        ("header", _Header),
        ("room", ctypes.c_char * 64),
    )


class _Argument(ctypes.Structure):
    """rd_kafka_vu_t: one part of a record."""

    _fields_ = (("kind", ctypes.c_int), ("part", _Part))


def produce(servers: str, topic: str, *, key: bytes, value: bytes, header: tuple[bytes, bytes]) -> None:
    """Produce one record, and wait until it is delivered."""
    (path,) = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs").glob("librdkafka*.so*")
    library = ctypes.CDLL(str(path))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_produceva"):
        getattr(library, name).restype = ctypes.c_void_p
    problem = ctypes.create_string_buffer(512)
    configuration = ctypes.c_void_p(library.rd_kafka_conf_new())
    result = library.rd_kafka_conf_set(configuration, b"bootstrap.servers", servers.encode(), problem, 512)
    assert result == _CONFIGURATION_OK, problem.value
    client = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, configuration, problem, 512))
    assert client.value, problem.value
    arguments = (_Argument * 4)(
        _Argument(_TOPIC, _Part(text=topic.encode())),
        _Argument(_VALUE, _Part(bytes=_Bytes(value, len(value)))),
        _Argument(_KEY, _Part(bytes=_Bytes(key, len(key)))),
        _Argument(_HEADER, _Part(header=_Header(header[0], header[1], len(header[1])))),
    )
    assert library.rd_kafka_produceva(client, arguments, ctypes.c_size_t(4)) is None
    assert library.rd_kafka_flush(client, 10_000) == 0
    library.rd_kafka_destroy(client)
