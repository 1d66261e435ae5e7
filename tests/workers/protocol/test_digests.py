"""Digests as text, of streams, and in Content-Digest."""

import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from workers.protocol.digests import (
    Digest,
    content_digest_check,
    content_digest_header,
    digest_of,
    digest_parse,
    digest_stream,
    sha256_hex,
)
from workers.protocol.errors import (
    ContentDigestMalformedError,
    ContentDigestMismatchError,
    DigestMalformedError,
)

EMPTY_HEX = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

MALFORMED = [
    "",
    EMPTY_HEX,
    "sha256:",
    "sha256:" + EMPTY_HEX.upper(),
    "SHA256:" + EMPTY_HEX,
    "sha256:" + EMPTY_HEX[:-1],
    "sha256:" + EMPTY_HEX + "0",
    "sha256:" + EMPTY_HEX + "\n",
    " sha256:" + EMPTY_HEX,
    "sha512:" + EMPTY_HEX,
    "sha256:" + EMPTY_HEX[:-1] + "\N{ARABIC-INDIC DIGIT ONE}",
]


def test_the_digest_of_nothing_is_the_published_one() -> None:
    assert sha256_hex(b"") == EMPTY_HEX
    assert digest_of(b"") == "sha256:" + EMPTY_HEX


@given(st.binary(max_size=200))
def test_parse_returns_the_hex_of_what_digest_of_wrote(data: bytes) -> None:
    assert digest_parse(digest_of(data)) == hashlib.sha256(data).hexdigest()
    assert TypeAdapter(Digest).validate_python(digest_of(data)) == digest_of(data)


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_digest_is_refused_as_text_and_as_a_field(text: str) -> None:
    with pytest.raises(DigestMalformedError):
        digest_parse(text)
    with pytest.raises(ValidationError):
        TypeAdapter(Digest).validate_python(text)


@given(st.text(max_size=80))
def test_any_text_is_refused_with_the_documented_error(text: str) -> None:
    with pytest.raises(DigestMalformedError):
        digest_parse(text)


@given(st.binary(max_size=300), st.integers(min_value=1, max_value=64))
def test_a_stream_has_the_digest_of_its_bytes_whatever_the_chunk(data: bytes, chunk_bytes: int) -> None:
    assert digest_stream(io.BytesIO(data), chunk_bytes) == (digest_of(data), len(data))


def test_content_digest_of_the_rfc_9530_example() -> None:
    # RFC 9530, appendix B.1: the body of 18 bytes and a newline.
    body = b'{"hello": "world"}\n'
    header = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert content_digest_header(body) == header
    content_digest_check(header, body)
    content_digest_check(f" {header}\t", body)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_content_digest_fits_only_its_own_body(body: bytes, other: bytes) -> None:
    header = content_digest_header(body)
    if body == other:
        content_digest_check(header, other)
    else:
        with pytest.raises(ContentDigestMismatchError):
            content_digest_check(header, other)


_GOOD = content_digest_header(b"")


@pytest.mark.parametrize(
    "header",
    [
        "",
        _GOOD[:-1],
        _GOOD.replace("sha-256", "sha-512"),
        _GOOD.replace("sha-256", "SHA-256"),
        _GOOD + ", " + _GOOD,
        _GOOD + ";a=1",
        "sha-256=" + "A" * 43 + "=",
        "sha-256=:" + "A" * 42 + "B=:",
        _GOOD + "\n",
    ],
)
def test_a_malformed_content_digest_is_refused(header: str) -> None:
    with pytest.raises(ContentDigestMalformedError):
        content_digest_check(header, b"")


@given(st.text(max_size=80))
def test_any_content_digest_is_refused_with_the_documented_error(header: str) -> None:
    with pytest.raises((ContentDigestMalformedError, ContentDigestMismatchError)):
        content_digest_check(header, b"some body")
