"""SHA-256 digests, as messages write them and as HTTP carries them.

A digest in a message is `sha256:` and 64 lowercase hexadecimal digits, nothing else: equal bytes have equal digests as
text, so digests may be compared, stored and looked up as strings.
"""

import hashlib
import re
from typing import Annotated, Protocol

from pydantic import StringConstraints

from workers.protocol.errors import (
    ContentDigestMalformedError,
    ContentDigestMismatchError,
    DigestMalformedError,
)
from workers.protocol.strict_base64 import base64_decode, base64_encode

DIGEST_PREFIX = "sha256:"
STREAM_CHUNK_BYTES = 1024 * 1024

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_CONTENT_DIGEST = re.compile(r"sha-256=:([A-Za-z0-9+/]{43}=):")

Digest = Annotated[str, StringConstraints(strict=True, pattern=r"^sha256:[0-9a-f]{64}$")]
"""A digest field of a pydantic model."""

DigestHex = Annotated[str, StringConstraints(strict=True, pattern=r"^[0-9a-f]{64}$")]
"""The bare hexadecimal digits, as in-toto subjects have them."""


class Readable(Protocol):
    """What `digest_stream` reads from: a file opened in binary mode, or anything with its `read`."""

    def read(self, size: int, /) -> bytes: ...


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of `data`: 64 lowercase hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def digest_of(data: bytes) -> str:
    """The digest of `data`, as messages write it."""
    return DIGEST_PREFIX + sha256_hex(data)


def digest_parse(text: str) -> str:
    """The 64 hexadecimal digits of a digest. Raises DigestMalformedError."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise DigestMalformedError(f"A digest is {DIGEST_PREFIX!r} and 64 lowercase hexadecimal digits; found {text[:80]!r}.")
    return match.group(1)


def digest_stream(readable: Readable, chunk_bytes: int = STREAM_CHUNK_BYTES) -> tuple[str, int]:
    """The digest and the size in bytes of what is left to read, holding at most `chunk_bytes` of it at a time."""
    sha256 = hashlib.sha256()
    size_bytes = 0
    while chunk := readable.read(chunk_bytes):
        sha256.update(chunk)
        size_bytes += len(chunk)
    return DIGEST_PREFIX + sha256.hexdigest(), size_bytes


def content_digest_header(body: bytes) -> str:
    """The Content-Digest field for `body` (RFC 9530, section 2): one member, `sha-256`."""
    return f"sha-256=:{base64_encode(hashlib.sha256(body).digest())}:"


def content_digest_check(header: str, body: bytes) -> None:
    """Return if the Content-Digest field `header` is that of `body`.

    RFC 9530 permits several algorithms in one field; this protocol wants exactly one `sha-256`, so that there is
    nothing to choose. Raises ContentDigestMalformedError, ContentDigestMismatchError.
    """
    match = _CONTENT_DIGEST.fullmatch(header.strip(" \t"))
    if match is None:
        raise ContentDigestMalformedError(f"Content-Digest must be one digest, 'sha-256=:<base64 of 32 bytes>:'; found {header[:120]!r}.")
    try:
        expected = base64_decode(match.group(1))
    except ValueError as error:
        raise ContentDigestMalformedError(f"Content-Digest: {error}.") from error
    if expected != hashlib.sha256(body).digest():
        raise ContentDigestMismatchError(
            f"The body of {len(body)} bytes is not the one that Content-Digest was made for; "
            f"its field would be {content_digest_header(body)!r}. Send the body unchanged, with its own digest."
        )
