"""Who may ask the gateway, and how often: keys, rates, and pages of other origins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from running_gateway import PARCEL, PATIENCE, many, starting, tiny
from worker_config import write_config

from stream_classifier import cli
from stream_classifier.errors import SettingsError
from stream_classifier.gateway.key_hashes import hash_of, new_key
from stream_classifier.settings_file import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from running_gateway import RunningGateway

__all__ = ["many", "starting", "tiny"]  # fixtures

SHOP, APP = new_key(), new_key()
KEYS = {"shop": hash_of(SHOP), "app": hash_of(APP)}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_with_keys_only_who_has_one_gets_anything_but_the_pages_for_probes(
    start: Callable[..., RunningGateway],
) -> None:
    gateway = start(gateway={"keys": KEYS})
    for headers, code in (
        ({}, "key_missing"),
        ({"Authorization": SHOP}, "key_missing"),
        ({"Authorization": "Basic eDp5"}, "key_missing"),
        (bearer(SHOP[:-1]), "key_unknown"),
        (bearer(KEYS["shop"]), "key_unknown"),
    ):
        for answer in (
            gateway.post({"text": PARCEL}, headers=headers),
            gateway.get("/label-sets", headers=headers),
            gateway.get("/metrics", headers=headers),
            httpx.post(f"{gateway.address}/classify/stream", content=b"", headers=headers),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert SHOP[:-1] not in answer.text
    for key in (SHOP, APP):
        assert gateway.post({"text": PARCEL}, headers=bearer(key)).status_code == 200
        assert gateway.get("/label-sets", headers=bearer(key)).status_code == 200
        assert gateway.stream([{"text": PARCEL}], headers=bearer(key))[0]["label"] == "delivery"
        assert gateway.get("/metrics", headers=bearer(key)).status_code == 200
    assert [gateway.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    assert gateway.post({"text": PARCEL}, headers={"Authorization": f"bearer {SHOP}"}).status_code == 200
    document = gateway.get("/openapi.json").json()
    assert document["paths"]["/classify"]["post"]["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_each_key_has_a_rate_of_its_own(start: Callable[..., RunningGateway]) -> None:
    """Given three at once and one in 1000 s, when a client asks four times, then it is refused, and the other not."""
    gateway = start(gateway={"keys": KEYS, "key_requests_per_second": 0.001, "key_burst": 3})
    answers = [gateway.post({"text": PARCEL}, headers=bearer(SHOP)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[3].json()["error"]["code"] == "rate_limited"
    assert 900 < int(answers[3].headers["Retry-After"]) <= 1000
    assert gateway.get("/label-sets", headers=bearer(SHOP)).status_code == 429
    assert gateway.post({"text": PARCEL}, headers=bearer(APP)).status_code == 200
    assert gateway.get("/metrics", headers=bearer(SHOP)).status_code == 200
    assert gateway.get("/readyz").status_code == 200


def test_the_lines_of_a_stream_wait_for_their_turn(start: Callable[..., RunningGateway]) -> None:
    gateway = start(gateway={"keys": KEYS, "key_requests_per_second": 20, "key_burst": 1})
    gateway.headers = bearer(SHOP)
    told = gateway.stream([{"text": f"{PARCEL} {number}"} for number in range(10)], headers=bearer(SHOP))
    assert [answer["label"] for answer in told] == ["delivery"] * 10
    # The request took the one there was; each line waited a twentieth of a second.
    assert gateway.metric("gateway_request_seconds_sum", route="/classify/stream") > 0.45


def test_other_origins_are_not_told_that_they_may_unless_they_are_named(start: Callable[..., RunningGateway]) -> None:
    origin = {"Origin": "https://app.example"}
    asking = origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}

    def allowed(gateway: RunningGateway, headers: dict[str, str]) -> set[str | None]:
        first = httpx.options(f"{gateway.address}/classify", headers=headers, timeout=PATIENCE)
        answers = [first, gateway.post({"text": PARCEL}, headers=headers), gateway.post({}, headers=headers)]
        return {answer.headers.get("Access-Control-Allow-Origin") for answer in answers}

    assert allowed(start(), asking) == {None}
    named = start(gateway={"cors_origins": ["https://app.example"]})
    assert allowed(named, asking) == {"https://app.example"}
    assert allowed(named, asking | {"Origin": "https://evil.example"}) == {None}


def test_a_key_is_made_with_the_hash_that_the_settings_take(
    capsys: pytest.CaptureFixture[str], start: Callable[..., RunningGateway]
) -> None:
    assert cli.run(["gateway-key"]) == 0
    found = re.fullmatch(r"key   (sc-[\w-]{43})\nhash  ([0-9a-f]{64})\n", capsys.readouterr().out)
    assert found
    gateway = start(gateway={"keys": {"mine": found[2]}})
    assert gateway.post({"text": PARCEL}, headers=bearer(found[1])).status_code == 200
    assert cli.run(["gateway-key"]) == 0
    assert found[1] not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gateway", "problem"),
    [
        ({"keys": {"shop": SHOP}}, "shop takes the hash"),
        ({"keys": {"": KEYS["shop"]}}, "not blank"),
        ({"keys": [KEYS["shop"]]}, "takes keys of its own"),
        ({"cors_origins": ["*"]}, "an origin is"),
        ({"cors_origins": ["https://app.example/path"]}, "an origin is"),
        ({"max_in_flight": 0}, "gateway.max_in_flight"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_without_what_they_hold(
    gateway: dict[str, Any], problem: str, tmp_path: Path
) -> None:
    config = write_config(tmp_path, "localhost:1", ("a", "b", "c"), gateway=gateway)
    with pytest.raises(SettingsError, match=re.escape(problem)) as raised:
        load_settings(config, {})
    assert SHOP not in str(raised.value)


def test_origins_in_the_environment_have_commas_between(tmp_path: Path) -> None:
    config = write_config(tmp_path, "localhost:1", ("a", "b", "c"))
    variables = {
        "STREAM_CLASSIFIER_GATEWAY__CORS_ORIGINS": "https://a.example, http://localhost:3000",
        "STREAM_CLASSIFIER_GATEWAY__KEYS": f"{{shop: {KEYS['shop']}}}",
    }
    settings = load_settings(config, variables).gateway
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.keys == {"shop": KEYS["shop"]}
