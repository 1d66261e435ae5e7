"""What all messages are made of."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from workers.protocol.canonical import INTEGER_LIMIT

PROTOCOL_VERSION: Final = 1
"""Raised when a change is not understood by older peers; both sides say what they speak and refuse what they do not."""
Json = Any
Whole = Annotated[int, Field(ge=0, le=INTEGER_LIMIT)]
"""A whole number: bytes, a count. The bound of numbers in JSON once more, since pydantic reads digits in a string as a number too, and of
those there may be thousands: more than a column holds, or than can be divided by a unit to be shown."""
ShortText = Annotated[str, StringConstraints(max_length=200)]
_PATH_PART = r"(?:[^./\\\x00-\x1f][^/\\\x00-\x1f]*|\.[^./\\\x00-\x1f][^/\\\x00-\x1f]*|\.\.[^/\\\x00-\x1f]+)"
OutputPath = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=rf"^{_PATH_PART}(?:/{_PATH_PART})*$")]
"""A relative POSIX path without empty, ``.`` or ``..`` components, backslashes or control characters."""


class Message(BaseModel):
    """Base of all messages: frozen, unknown fields refused, NaN and infinity refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Problem(BaseModel):
    """RFC 9457 problem details with a stable `code`; extension members are allowed."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str = ""
