"""JSON documents, compared value by value: all but objects and lists is a value.

Two agree when they have the same shape and agreeing leaves: numbers within the tolerance, all else equal. The order of an object's members
does not count, that of a list's items does. JSON knows no NaN and no infinity: a document that has them can't be read.
"""

from __future__ import annotations

from typing import Any, Final

from jobs.comparison.reading import FileUnreadableError
from jobs.comparison.report import PLACE_CHARACTERS_MAX, Tally
from jobs.comparison.rules import FileRule, Tolerance
from jobs.comparison.scalars import allowed_of, numbers_difference
from workers.protocol.canonical import json_parse
from workers.protocol.errors import VerificationError

DOCUMENT_BYTES_MAX: Final = 32 * 2**20
"""A text takes up to four times its bytes while it is read."""
VALUES_MAX: Final = 2_000_000
"""A value takes up to 200 bytes, however short its text."""

_Place = tuple["_Place", str | int] | None
"""Where a value is: the place of what holds it, and its name or index there. Spelled out only for the worst: names may be long."""


def json_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError."""
    first, second = document_read(rule.path, one), document_read(rule.path, other)
    for name in rule.columns:
        if not all(isinstance(document, dict) and name in document for document in (first, second)):
            raise FileUnreadableError(f"{rule.path}: expected a JSON object with the member {name!r} in both results.")
    if rule.columns and first.keys() == second.keys():
        for name, value in first.items():
            _values_compare(tally, (None, name), value, second[name], rule.tolerance_of(name))
    else:
        _values_compare(tally, None, first, second, rule.tolerance)


def document_read(path: str, data: bytes) -> Any:
    """The value that a document spells. Raises FileUnreadableError."""
    if len(data) > DOCUMENT_BYTES_MAX:
        raise FileUnreadableError(f"{path}: expected a document of at most {DOCUMENT_BYTES_MAX} bytes; found {len(data)}.")
    values = data.count(b",") + data.count(b"[") + data.count(b"{") + 1
    if values > VALUES_MAX:
        raise FileUnreadableError(f"{path}: expected at most {VALUES_MAX} values; found about {values}.")
    try:
        return json_parse(data, limit_bytes=DOCUMENT_BYTES_MAX)
    except VerificationError as error:
        raise FileUnreadableError(f"{path}: expected JSON; {error}") from error


def _values_compare(tally: Tally, place: _Place, one: Any, other: Any, tolerance: Tolerance) -> None:
    """Recurses as deep as the parser lets documents nest."""
    match one, other:
        case (dict(), dict()) if one.keys() == other.keys():
            for name, value in one.items():
                _values_compare(tally, (place, name), value, other[name], tolerance)
        case (list(), list()) if len(one) == len(other):
            for index, (item, counterpart) in enumerate(zip(one, other, strict=True)):
                _values_compare(tally, (place, index), item, counterpart, tolerance)
        case (bool() | None | str(), _) | (_, bool() | None | str()):
            if type(one) is type(other) and one == other:
                tally.equal()
            else:
                tally.disagrees(_pointer(place), _shown(one), _shown(other))
        case (int() | float(), int() | float()):
            difference = numbers_difference(float(one), float(other))  # the parser bounds integers
            allowed = allowed_of(tolerance, one, other, difference)
            if difference == 0:
                tally.equal()
            elif tally.differs(difference, allowed):
                tally.worst_is(_pointer(place), one, other, difference, allowed)
        case _:
            tally.disagrees(_pointer(place), _shown(one), _shown(other))


def _pointer(place: _Place) -> str:
    """The JSON pointer (RFC 6901), each name cut to what a report holds."""
    parts: list[str] = []
    while place is not None:
        place, name = place
        parts.append(str(name)[:PLACE_CHARACTERS_MAX].replace("~", "~0").replace("/", "~1"))
    return "/" + "/".join(reversed(parts))


def _shown(value: Any) -> str:
    match value:
        case dict():
            return f"object with {len(value)} members"
        case list():
            return f"list of {len(value)}"
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case _:
            return str(value)[:PLACE_CHARACTERS_MAX]
