"""Keys of clients, and what the settings hold of them."""

from __future__ import annotations

import hashlib
import secrets


def hash_of(key: str) -> str:
    """What the settings hold of a key. Keys are random and long, so a plain SHA-256 cannot be guessed back."""
    return hashlib.sha256(key.encode()).hexdigest()


def new_key() -> str:
    """A key of 256 random bits."""
    return f"sc-{secrets.token_urlsafe(32)}"
