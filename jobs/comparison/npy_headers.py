"""The header of an NPY file: which array follows. Reads the format's Python literal by a grammar of its own, without evaluating any.

The format: numpy.lib.format, versions 1.0 to 3.0. Accepted are types whose bytes mean the same everywhere: booleans, integers of 1 to 8
bytes, floats of 2 to 8, complex numbers of 8 and 16, bytes, texts, times, opaque items, and records of these. Objects (pickles), the
long doubles of single processors, and types of no bytes are refused before NumPy sees them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

HEADER_BYTES_MAX: Final = 10_000
"""As much as NumPy reads from those whom it doesn't trust."""
DIMENSIONS_MAX: Final = 32
ITEM_BYTES_MAX: Final = 2**20
DEPTH_MAX: Final = 8
_MAGIC = b"\x93NUMPY"

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'[^'\\\n]*'|"[^"\\\n]*")|(?P<number>\d{1,19})L?|(?P<name>True|False)|(?P<mark>[][(){}:,]))""", re.ASCII
)
_PLAIN = re.compile(r"\|?b1|[|<>=]?[iu]1|[<>=][iu][248]|[<>=]f[248]|[<>=]c(?:8|16)|[|<>=]?[SV][1-9]\d{0,6}|[<>=]U[1-9]\d{0,5}")
_TIME = re.compile(r"[<>=][Mm]8\[(?:[1-9]\d{0,5})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]|[<>=][Mm]8")


class HeaderMalformedError(ValueError):
    """Not a header that is read here; the text says why."""


@dataclass(frozen=True)
class Header:
    """What the header says; `data_offset` is where the array's bytes begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran_order: bool
    data_offset: int


def header_parse(data: bytes) -> Header:
    """The header at the start of `data`. Raises HeaderMalformedError."""
    if data[:6] != _MAGIC or len(data) < 12:
        raise HeaderMalformedError("expected an NPY file; its first bytes are others")
    version = (data[6], data[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise HeaderMalformedError(f"expected NPY version 1.0, 2.0 or 3.0; found {version[0]}.{version[1]}")
    length: int
    (length,) = struct.unpack_from("<H" if version == (1, 0) else "<I", data, 8)
    start = 10 if version == (1, 0) else 12
    if length > HEADER_BYTES_MAX or start + length > len(data):
        raise HeaderMalformedError(f"expected a header of at most {HEADER_BYTES_MAX} bytes, within the file; found {length}")
    try:
        text = data[start : start + length].decode("utf-8" if version == (3, 0) else "latin-1")
    except UnicodeDecodeError as error:
        raise HeaderMalformedError("expected a UTF-8 header") from error
    members = _Literal(text).read()
    if not isinstance(members, dict) or members.keys() != {"descr", "fortran_order", "shape"}:
        raise HeaderMalformedError("expected a header with descr, fortran_order and shape")
    shape, fortran_order = members["shape"], members["fortran_order"]
    if not isinstance(shape, tuple) or len(shape) > DIMENSIONS_MAX or not all(type(size) is int for size in shape):
        raise HeaderMalformedError(f"expected a shape of at most {DIMENSIONS_MAX} sizes")
    if not isinstance(fortran_order, bool):
        raise HeaderMalformedError("expected fortran_order to be True or False")
    dtype = _dtype_of(members["descr"])
    if dtype.subdtype is not None:
        raise HeaderMalformedError("expected items that are no arrays themselves; their sizes belong into the shape")
    return Header(dtype, shape, fortran_order, start + length)


class _Literal:
    """Reads texts, whole numbers, truth values, tuples, lists and dictionaries, as Python writes them."""

    def __init__(self, text: str) -> None:
        self._tokens = self._tokenize(text.rstrip(" \n\0"))
        self._next = next(self._tokens, None)

    def read(self) -> Any:
        value = self._value(0)
        if self._next is not None:
            raise HeaderMalformedError("expected the end of the header")
        return value

    @staticmethod
    def _tokenize(text: str) -> Iterator[tuple[str, str]]:
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise HeaderMalformedError(f"expected a plain Python literal; found {text[place : place + 20]!r}")
            place = match.end()
            yield str(match.lastgroup), match[str(match.lastgroup)]

    def _take(self, mark: str | None = None) -> tuple[str, str]:
        token = self._next
        if token is None or (mark is not None and token != ("mark", mark)):
            raise HeaderMalformedError(f"expected {mark or 'a value'}; found {token[1][:40] if token else 'the end'}")
        self._next = next(self._tokens, None)
        return token

    def _value(self, depth: int) -> Any:
        if depth > DEPTH_MAX:
            raise HeaderMalformedError(f"expected at most {DEPTH_MAX} levels")
        match self._take():
            case ("text", text):
                return text[1:-1]
            case ("number", digits):
                return int(digits)
            case ("name", name):
                return name == "True"
            case ("mark", "("):
                return self._tuple(depth)
            case ("mark", "["):
                return self._items("]", depth)[0]
            case ("mark", "{"):
                return self._dict(depth)
            case (_, found):
                raise HeaderMalformedError(f"expected a value; found {found!r}")

    def _tuple(self, depth: int) -> Any:
        items, has_comma = self._items(")", depth)
        return items[0] if len(items) == 1 and not has_comma else tuple(items)

    def _items(self, end: str, depth: int) -> tuple[list[Any], bool]:
        """(the items, whether a comma follows any)."""
        items: list[Any] = []
        has_comma = False
        while self._next != ("mark", end):
            items.append(self._value(depth + 1))
            if self._next != ("mark", ","):
                break
            self._take(",")
            has_comma = True
        self._take(end)
        return items, has_comma

    def _dict(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._next != ("mark", "}"):
            kind, name = self._take()
            if kind != "text" or name[1:-1] in found:
                raise HeaderMalformedError("expected names, each once")
            self._take(":")
            found[name[1:-1]] = self._value(depth + 1)
            if self._next != ("mark", ","):
                break
            self._take(",")
        self._take("}")
        return found


def _dtype_of(descr: Any) -> np.dtype[Any]:
    """The type that `descr` names: a text, (type, shape), or a list of (name, type) and (name, type, shape)."""
    match descr:
        case str() if _PLAIN.fullmatch(descr) or _TIME.fullmatch(descr):
            dtype = np.dtype(descr)
        case (inner, tuple() as shape) if isinstance(descr, tuple):
            dtype = _repeated(_dtype_of(inner), shape)
        case [_, *_] if isinstance(descr, list):
            dtype = _record_of(descr)
        case str():
            raise HeaderMalformedError(f"expected a type of numbers, texts, times or opaque bytes; found {descr[:40]!r}")
        case _:
            raise HeaderMalformedError("expected the name of a type, or a list of fields")
    if not 0 < dtype.itemsize <= ITEM_BYTES_MAX:
        raise HeaderMalformedError(f"expected items of 1 to {ITEM_BYTES_MAX} bytes")
    return dtype


def _repeated(inner: np.dtype[Any], shape: tuple[Any, ...]) -> np.dtype[Any]:
    count = 1
    if len(shape) > DEPTH_MAX:
        raise HeaderMalformedError("expected a field of few dimensions")
    for size in shape:
        if type(size) is not int or not 0 < size <= ITEM_BYTES_MAX:
            raise HeaderMalformedError(f"expected a field of 1 to {ITEM_BYTES_MAX} bytes")
        count *= size
    if count * inner.itemsize > ITEM_BYTES_MAX:
        raise HeaderMalformedError(f"expected a field of at most {ITEM_BYTES_MAX} bytes")
    return np.dtype((inner, shape))


def _record_of(fields: list[Any]) -> np.dtype[Any]:
    """As NumPy reads it: fields without a name are padding; of a (title, name), the name counts."""
    names: list[str] = []
    formats: list[np.dtype[Any]] = []
    offsets: list[int] = []
    offset = 0
    for each in fields:
        match each:
            case (name, inner):
                dtype = _dtype_of(inner)
            case (name, inner, tuple() as shape):
                dtype = _repeated(_dtype_of(inner), shape)
            case _:
                raise HeaderMalformedError("expected fields of a name and a type")
        if isinstance(name, tuple) and len(name) == 2:
            name = name[1]
        if not isinstance(name, str) or name in names:
            raise HeaderMalformedError("expected names of fields, each once")
        if not (name == "" and dtype.kind == "V" and dtype.names is None and dtype.subdtype is None):
            names.append(name)
            formats.append(dtype)
            offsets.append(offset)
        offset += dtype.itemsize
        if offset > ITEM_BYTES_MAX:
            raise HeaderMalformedError(f"expected items of at most {ITEM_BYTES_MAX} bytes")
    if not names or "" in names:
        raise HeaderMalformedError("expected fields with names")
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": offset})
