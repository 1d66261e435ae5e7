"""workers/protocol/join_tokens.py: a round trip, a golden value, and everything that is not a join token."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workers.protocol.join_tokens import (
    JOIN_TOKEN_PREFIX,
    JoinTokenContent,
    JoinTokenMalformedError,
    join_token_decode,
    join_token_encode,
)

KEY_ID = "sha256:" + "0123456789abcdef" * 4
SECRET = "A" * 41 + "-_"
CONTENT: dict[str, Any] = {"portal": "https://nexa.example.org", "coordinator": KEY_ID, "secret": SECRET}
# Made with json.dumps(sort_keys=True, separators=(",", ":")) and base64 alone.
GOLDEN = (
    "nexa-join1.eyJjb29yZGluYXRvciI6InNoYTI1NjowMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYwMTI"
    "zNDU2Nzg5YWJjZGVmIiwicG9ydGFsIjoiaHR0cHM6Ly9uZXhhLmV4YW1wbGUub3JnIiwic2VjcmV0IjoiQUFBQUFBQUFBQUFBQUFBQUFBQUFBQ"
    "UFBQUFBQUFBQUFBQUFBQUFBQUEtXyJ9"
)


def spelled(document: Any) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return JOIN_TOKEN_PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def test_golden_token_both_ways() -> None:
    assert join_token_encode(JoinTokenContent(**CONTENT)) == GOLDEN
    assert join_token_decode(GOLDEN) == JoinTokenContent(**CONTENT)


@pytest.mark.parametrize("portal", ["http://127.0.0.1:8000", "http://[::1]:8000", "https://nexa.example.org"])
def test_round_trip_with_blanks_around(portal: str) -> None:
    content = JoinTokenContent(**{**CONTENT, "portal": portal})
    assert join_token_decode(f"  {join_token_encode(content)}\n") == content


def test_secret_is_not_in_the_repr() -> None:
    assert SECRET not in repr(JoinTokenContent(**CONTENT))


@pytest.mark.parametrize(
    "changes",
    [
        {"portal": "ftp://nexa.example.org"},
        {"portal": "https://nexa.example.org/"},
        {"portal": "https://user@nexa.example.org"},
        {"portal": "https://nexa.example.org\nx"},
        {"portal": 7},
        {"coordinator": KEY_ID.upper()},
        {"coordinator": None},
        {"secret": SECRET[:-1]},
        {"secret": SECRET + "\n"},
        {"further": 1},
    ],
)
def test_wrong_content_is_refused_without_repeating_the_secret(changes: dict[str, Any]) -> None:
    document = {**CONTENT, **changes}
    with pytest.raises(JoinTokenMalformedError) as caught:
        join_token_decode(spelled(document))
    assert SECRET[:-1] not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ValidationError):
        JoinTokenContent(**document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nexa-join1.",
        "nexa-join2." + GOLDEN.removeprefix(JOIN_TOKEN_PREFIX),
        GOLDEN[:-1],
        GOLDEN[:-9],
        GOLDEN + "=",
        GOLDEN.replace("eyJ", "ey\nJ"),
        GOLDEN + "ä",
        spelled(b"\xff"),
        spelled(b"[" * 200),
        spelled([CONTENT]),
        spelled(None),
        spelled(b'{"secret":1,"secret":2}'),
        spelled({name: CONTENT[name] for name in ("secret", "portal", "coordinator")}),
        JOIN_TOKEN_PREFIX + "A" * 2000,
    ],
)
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(JoinTokenMalformedError):
        join_token_decode(text)


@given(st.text() | st.text().map(lambda text: JOIN_TOKEN_PREFIX + text) | st.binary().map(spelled))
def test_nothing_but_the_documented_error_escapes(text: str) -> None:
    with pytest.raises(JoinTokenMalformedError):
        join_token_decode(text)


@given(st.integers(0, len(GOLDEN) - 1), st.characters())
def test_one_changed_character_never_reads_as_the_same_token(index: int, character: str) -> None:
    changed = GOLDEN[:index] + character + GOLDEN[index + 1 :]
    try:
        found = join_token_decode(changed)
    except JoinTokenMalformedError:
        return
    assert (found == JoinTokenContent(**CONTENT)) is (changed == GOLDEN)
