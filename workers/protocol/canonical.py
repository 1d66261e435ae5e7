"""JSON: canonical on the way out (RFC 8785), careful on the way in.

`json_parse` reads I-JSON (RFC 7493), the part of JSON that all readers understand alike, so what one side signed is
what the other side reads: no duplicate names, no numbers beyond a double, no lone surrogates. It also refuses U+0000,
which PostgreSQL cannot store, and bounds size and depth, so bytes from strangers cost little.
"""

import json
import math
import re
from typing import Any, Never

import rfc8785

from workers.protocol.errors import JsonMalformedError, JsonTooLargeError, NotCanonicalError

DEPTH_LIMIT = 64
"""How deep arrays and objects may nest. A number of our own, so that both sides refuse the same documents."""

INTEGER_LIMIT = 2**53 - 1
"""The largest magnitude of an integer (RFC 7493, section 2.2). Credits are strings for this reason."""

_INTEGER_CHARACTERS = 22

# The closing quote is optional, so that a string without end is passed over once, not once for each quote inside it.
_STRING_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


# Writes what `_plain` returns as RFC 8785 does. The walk before has found no cycle, so the encoder need not look for one.
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


class _NotPlainError(Exception):
    """A value that the standard library's encoder would write in another way than RFC 8785, or that has no canonical form."""


def canonical_json(value: Any) -> bytes:
    """The one RFC 8785 form of `value`: UTF-8, sorted names, no spaces.

    Raises NotCanonicalError where there is none: NaN, infinities, integers beyond 2^53 - 1, types that JSON lacks,
    lone surrogates, nesting without end.
    """
    try:
        return _ENCODER.encode(_plain(value)).encode("utf-8")
    except _NotPlainError:
        pass
    except (UnicodeError, RecursionError) as error:
        raise NotCanonicalError(f"This value has no canonical JSON form: {error or type(error).__name__}.") from error
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError, TypeError, ValueError) as error:
        raise NotCanonicalError(f"This value has no canonical JSON form: {error or type(error).__name__}.") from error


def _plain(value: Any) -> Any:
    """`value` in a form that `_ENCODER` writes as RFC 8785 does, three times as fast as the library can. Raises _NotPlainError.

    Names in ASCII sort alike by code points and by UTF-16. A double that is whole is written as an integer; any other is written with the
    same digits by both, but for those with an exponent.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if kind is dict:
        for name in value:
            if type(name) is not str or not name.isascii():
                raise _NotPlainError
        return {name: _plain(inner) for name, inner in value.items()}
    if kind is int and -INTEGER_LIMIT <= value <= INTEGER_LIMIT:
        return value
    if kind is list or kind is tuple:
        return [_plain(inner) for inner in value]
    if kind is float:
        return _plain_double(value)
    raise _NotPlainError


def _plain_double(value: float) -> int | float:
    if value.is_integer():
        if -INTEGER_LIMIT <= value <= INTEGER_LIMIT:
            return int(value)
    elif not set("en").intersection(repr(value)):  # an exponent, nan, inf
        return value
    raise _NotPlainError


def json_parse(data: bytes, *, limit_bytes: int) -> Any:
    """The value that the UTF-8 document `data` spells, of at most `limit_bytes` bytes.

    Raises JsonTooLargeError, JsonMalformedError; nothing else.
    """
    if len(data) > limit_bytes:
        raise JsonTooLargeError(f"Expected at most {limit_bytes} bytes of JSON; found {len(data)}.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonMalformedError(f"JSON must be UTF-8; the byte at offset {error.start} is not.") from error
    _depth_check(data)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise JsonMalformedError(f"Not JSON: {error.msg} at character {error.pos}.") from error
    # Only an escape can spell a character that the decoding above let through.
    if b"\\u" in data:
        _strings_check(value)
    return value


def _depth_check(data: bytes) -> None:
    """Refuse nesting beyond DEPTH_LIMIT before the parser recurses into it."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_LIMIT:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
            if depth > DEPTH_LIMIT:
                raise JsonMalformedError(f"Arrays and objects may nest {DEPTH_LIMIT} deep; these nest deeper.")
        elif token in (b"]", b"}"):
            depth -= 1


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise JsonMalformedError(f"The name {name[:80]!r} occurs twice in one object.")
            seen.add(name)
    return found


def _integer_of(digits: str) -> int | float:
    # The length is checked first: int() of a long string costs quadratic time.
    if len(digits) <= _INTEGER_CHARACTERS:
        if abs(number := int(digits)) <= INTEGER_LIMIT:
            return number
        # RFC 8785 writes doubles up to 10^21 without a point: such digits are read as the double that writes them.
        double = float(digits)
        if rfc8785.dumps(double) == digits.encode("ascii"):
            return double
    raise JsonMalformedError(f"Integers go to 2^53 - 1 in magnitude; found {digits[:40]}.")


def _float_of(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise JsonMalformedError(f"Numbers must fit a double; found {digits[:40]}.")
    return number


def _constant_refuse(name: str) -> Never:
    raise JsonMalformedError(f"{name} is not JSON.")


# Made once: `json.loads` with hooks makes one for each document.
_DECODER = json.JSONDecoder(object_pairs_hook=_object_of, parse_int=_integer_of, parse_float=_float_of, parse_constant=_constant_refuse)


def _strings_check(value: Any) -> None:
    """Refuse lone surrogates and U+0000 in any name or string of `value`."""
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
                    raise JsonMalformedError("Strings may hold neither U+0000 nor half of a surrogate pair.")
            case list() as items:
                rest.extend(items)
            case dict() as members:
                rest.extend(members.keys())
                rest.extend(members.values())
