"""What is stored of a secret that is shown once: tokens of the API and of joining."""

from __future__ import annotations

import hashlib


def secret_sha256(secret: str) -> bytes:
    """Of any text. Plain SHA-256 suffices: such a secret is 256 random bits, not a password."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
