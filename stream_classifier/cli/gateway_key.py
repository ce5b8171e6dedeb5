"""`stream-classifier gateway-key`: a key for a client of the gateway, and what the settings hold of it."""

from __future__ import annotations

import typer

from stream_classifier.gateway.key_hashes import hash_of, new_key


def gateway_key() -> None:
    """Make a key for a client of the gateway: the client gets the key, and the settings get its hash.

    Example: stream-classifier gateway-key
    """
    key = new_key()
    typer.echo(f"key   {key}")
    typer.echo(f"hash  {hash_of(key)}")
