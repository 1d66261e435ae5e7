"""The golden vectors as they lie in their files, and the two functions that every check of them needs."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Final

from tests.workers.protocol.make_vectors import FOLDER

VECTORS: Final[dict[str, Any]] = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}
"""By the name of the file, without its ending."""


def sha256(data: bytes) -> str:
    """The digest of `data`, by hashlib alone."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def decoded(text: str) -> bytes:
    """The bytes of base64 text, by the standard library alone."""
    return base64.b64decode(text, validate=True)
