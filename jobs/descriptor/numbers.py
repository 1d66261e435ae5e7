"""Numbers of a descriptor as people write them, and documents as people read them. Pure. Reading back gives what was written."""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Final

from workers.protocol.canonical import INTEGER_LIMIT

LINE_CHARACTERS: Final = 120
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,4})?")
"""JSON's grammar, no longer than any number that means something here."""


def number_text(value: float) -> str:
    """`1.8e12` rather than 1800000000000.0; JSON's grammar, read back as the same number of the same type."""
    if isinstance(value, int) or value == 0 or 1e-4 <= abs(value) < 1e6:
        return repr(value)
    mantissa, _, exponent = f"{Decimal(repr(value)).normalize():E}".partition("E")
    return f"{mantissa}e{int(exponent)}"


def number_parse(text: str) -> int | float | None:
    """The number that JSON would read; None where it would read none, or one that a descriptor can't hold."""
    if _NUMBER.fullmatch(text) is None:
        return None
    value: int | float = json.loads(text)
    if isinstance(value, int):
        return value if abs(value) <= INTEGER_LIMIT else None
    return value if math.isfinite(value) else None


def document_text(document: Any) -> str:
    """A JSON document with a line for each member, and short members in one line."""
    return _written(document, indent=0) + "\n"


def _written(value: Any, *, indent: int) -> str:
    line = _in_one_line(value)
    if not isinstance(value, dict | list) or not value or (indent and len(line) + indent <= LINE_CHARACTERS):
        return line
    inner = indent + 2
    if isinstance(value, dict):
        parts = [f"{_in_one_line(name)}: {_written(each, indent=inner)}" for name, each in value.items()]
        opening, closing = "{}"
    else:
        parts = [_written(each, indent=inner) for each in value]
        opening, closing = "[]"
    pad = "\n" + " " * inner
    return opening + pad + f",{pad}".join(parts) + "\n" + " " * indent + closing


def _in_one_line(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_in_one_line(name)}: {_in_one_line(each)}" for name, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_in_one_line, value)) + "]"
        case float() if math.isfinite(value):
            return number_text(value)
        case _:
            return json.dumps(value, ensure_ascii=False)
