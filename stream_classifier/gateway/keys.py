"""Who may ask, and how often."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from stream_classifier.gateway.key_hashes import hash_of
from stream_classifier.gateway.problems import Problem
from stream_classifier.gateway.token_bucket import TokenBucket

if TYPE_CHECKING:
    from stream_classifier.settings import GatewaySettings

_BEARER = "bearer "


class Client:
    """Whoever has a key, or everybody where none is needed.

    Args:
        bucket: How often it may ask; None: as often as it likes.
    """

    def __init__(self, bucket: TokenBucket | None) -> None:
        self._bucket = bucket

    def take(self, now: float) -> float:
        """Count one request: 0 when it may be made, else the seconds until it may."""
        return 0.0 if self._bucket is None else self._bucket.take(now)


class Keys:
    """Tells clients by their keys.

    Args:
        settings: The hashes, and how often each may ask.
        now: Seconds on the clock of `Client.take`.
    """

    def __init__(self, settings: GatewaySettings, now: float) -> None:
        per_second = settings.key_requests_per_second
        self._clients = [
            (digest, Client(None if per_second is None else TokenBucket(per_second, settings.key_burst, now)))
            for digest in settings.keys.values()
        ]
        self._everybody = None if settings.keys else Client(None)

    def client(self, authorization: str | None) -> Client:
        """Whose request this is.

        Args:
            authorization: The header of that name.

        Raises:
            Problem: A key is needed, and this is none, or an unknown one.
        """
        if self._everybody is not None:
            return self._everybody
        if authorization is None or not authorization.lower().startswith(_BEARER):
            raise Problem("key_missing")
        digest = hash_of(authorization[len(_BEARER) :].strip())
        found = None
        for known, client in self._clients:  # all of them, so that the time it takes tells nothing
            if hmac.compare_digest(known, digest):
                found = client
        if found is None:
            raise Problem("key_unknown")
        return found
