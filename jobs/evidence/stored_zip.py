"""A ZIP of stored members that is made while it is sent: nothing is kept anywhere, and its length is known before its first byte.

The standard library's writer needs a file to go back in, or doesn't say how long it will be. Layout: PKWARE's APPNOTE 6.3.10, 4.3. Every
member alike: its checksum follows its bytes (general purpose bit 3), sizes and offsets have 64 bits.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_LOCAL_ZIP64: Final = struct.Struct("<2H2Q")
_DESCRIPTOR: Final = struct.Struct("<4sI2Q")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_CENTRAL_ZIP64: Final = struct.Struct("<2H3Q")
_END_ZIP64: Final = struct.Struct("<4sQ2H2I4Q")
_LOCATOR: Final = struct.Struct("<4sIQI")
_END: Final = struct.Struct("<4s4H2IH")

_VERSION: Final = 45
"""What a reader has to understand: 4.5, for 64 bits."""
_FLAGS: Final = 1 << 3
_STORED: Final = 0
_MIDNIGHT: Final = 0
_DATE: Final = 1 << 5 | 1
"""1980-01-01, the first that a ZIP can say: the same members are the same bytes."""
_IN_ZIP64: Final = 0xFFFFFFFF
_MADE_BY: Final = 3 << 8 | _VERSION
_MODE: Final = 0o100600 << 16


@dataclass(frozen=True)
class Member:
    """A file of the ZIP: an ASCII name, its length, and what gives its bytes when their turn has come."""

    name: str
    size_bytes: int
    chunks: Callable[[], Iterable[bytes]]


class MemberSizeError(Exception):
    """A member has another length than was announced. The ZIP can't be ended, nor be taken back."""


def zip_size_bytes(members: Sequence[Member]) -> int:
    """How many bytes zip_chunks gives."""
    fixed = _LOCAL.size + _LOCAL_ZIP64.size + _DESCRIPTOR.size + _CENTRAL.size + _CENTRAL_ZIP64.size
    return sum(fixed + 2 * len(one.name) + one.size_bytes for one in members) + _END_ZIP64.size + _LOCATOR.size + _END.size


def zip_chunks(members: Sequence[Member]) -> Iterator[bytes]:
    """The ZIP, piece by piece. Raises MemberSizeError, and what a member's chunks raise."""
    offset_bytes = 0
    directory = []
    for one in members:
        name = one.name.encode("ascii")
        yield _LOCAL.pack(
            b"PK\3\4", _VERSION, _FLAGS, _STORED, _MIDNIGHT, _DATE, 0, _IN_ZIP64, _IN_ZIP64, len(name), _LOCAL_ZIP64.size
        ) + name + _LOCAL_ZIP64.pack(1, _LOCAL_ZIP64.size - 4, 0, 0)  # fmt: skip
        checksum = size_bytes = 0
        for chunk in one.chunks():
            checksum = zlib.crc32(chunk, checksum)
            size_bytes += len(chunk)
            yield chunk
        if size_bytes != one.size_bytes:
            raise MemberSizeError(f"Expected {one.size_bytes} bytes of {one.name}, found {size_bytes}.")
        yield _DESCRIPTOR.pack(b"PK\7\x08", checksum, size_bytes, size_bytes)
        directory.append(
            _CENTRAL.pack(
                b"PK\1\2", _MADE_BY, _VERSION, _FLAGS, _STORED, _MIDNIGHT, _DATE, checksum, _IN_ZIP64, _IN_ZIP64, len(name),
                _CENTRAL_ZIP64.size, 0, 0, 0, _MODE, _IN_ZIP64,
            ) + name + _CENTRAL_ZIP64.pack(1, _CENTRAL_ZIP64.size - 4, size_bytes, size_bytes, offset_bytes)
        )  # fmt: skip
        offset_bytes += _LOCAL.size + len(name) + _LOCAL_ZIP64.size + size_bytes + _DESCRIPTOR.size
    central = b"".join(directory)
    yield central
    count = len(directory)
    yield _END_ZIP64.pack(b"PK\6\6", _END_ZIP64.size - 12, _MADE_BY, _VERSION, 0, 0, count, count, len(central), offset_bytes)
    yield _LOCATOR.pack(b"PK\6\7", 0, offset_bytes + len(central), 1)
    yield _END.pack(b"PK\5\6", 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), _IN_ZIP64, _IN_ZIP64, 0)
