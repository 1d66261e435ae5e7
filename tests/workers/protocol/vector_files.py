"""The golden vectors as they lie in their files, and what every check of them needs that owes nothing to our code."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Final

from securesystemslib._vendor.ed25519 import ed25519

from tests.workers.protocol.make_vectors import FOLDER

VECTORS: Final[dict[str, Any]] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
"""By the name of the file, without its ending."""

_plain_ed25519: Any = ed25519
"""Ed25519 in plain Python; it has no types."""


def sha256(data: bytes) -> str:
    """The digest of `data`, by hashlib alone."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def decoded(text: str) -> bytes:
    """The bytes of base64 text, by the standard library alone."""
    return base64.b64decode(text, validate=True)


def ed25519_public(private: bytes) -> bytes:
    """The public key of a private one."""
    return bytes(_plain_ed25519.publickey_unsafe(private))


def ed25519_check(signature: bytes, message: bytes, public: bytes) -> None:
    """Return if `signature` is one of `public` over `message`. Raises its SignatureMismatch, or ValueError."""
    _plain_ed25519.checkvalid(signature, message, public)
