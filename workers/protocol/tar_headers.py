"""The one byte form of a member's headers, and the rule which paths may stand together; shared by the archive's writer and reader."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from workers.protocol.canonical import canonical_json
from workers.protocol.messages.receipt import Manifest

BLOCK_BYTES: Final = 512
CHUNK_BYTES: Final = 1024 * 1024
END_OF_ARCHIVE: Final = bytes(2 * BLOCK_BYTES)
OUTPUTS_PREFIX: Final = "outputs/"
MANIFEST_NAME: Final = "manifest.json"

_PAX_BLOCKS_MAX: Final = 4
_USTAR_SIZE_LIMIT: Final = 8**11
_PAX_NAME: Final = b"././@PaxHeader"
_OCTAL: Final = re.compile(rb"[0-7]{11}\0")
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,4}) (path|size)=([^\n]*)\n")


class HeaderMalformedError(ValueError):
    """A block that is no header of ours; the message completes 'found …'."""


class PathCollisionError(ValueError):
    """Two paths that some file system cannot hold side by side."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """How much an archive may hold, over all of its files, before its manifest."""

    content_bytes: int = 16 * 2**30
    files: int = 10_000


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """What an archive is: the digest and size of all of its bytes, its manifest, and the digest of the manifest's canonical JSON."""

    digest: str
    size_bytes: int
    manifest: Manifest
    result_digest: str


class PathBook:
    """The paths of one archive, as the most forgetful file system would see them: normalised (NFC) and case-folded."""

    def __init__(self) -> None:
        self._exact: dict[str, str] = {}
        self._files: set[str] = set()
        self._last = b""

    def add(self, path: str) -> None:
        """Raises PathCollisionError: not after the one before, equal but for case, or one the folder of the other."""
        encoded = path.encode("utf-8")
        if encoded <= self._last:
            raise PathCollisionError(f"Paths must ascend by their bytes, each once; {path[:100]!r} does not follow the one before.")
        self._last = encoded
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            exact = "/".join(parts[:depth])
            folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", exact).casefold())
            other = self._exact.setdefault(folded, exact)
            if other != exact or folded in self._files:
                raise PathCollisionError(f"{exact[:100]!r} and {other[:100]!r} cannot both exist where case or normal form is not kept.")
            if depth == len(parts):
                self._files.add(folded)


def manifest_encode(manifest: Manifest) -> bytes:
    """The canonical JSON of a manifest: the last member of an archive."""
    return canonical_json(manifest.model_dump(mode="json"))


def padding_bytes(size_bytes: int) -> int:
    """How many zeros follow a file of this size."""
    return -size_bytes % BLOCK_BYTES


def header_encode(name: str, size_bytes: int) -> bytes:
    """The header blocks of a regular file: one, or three with a pax header (POSIX.1-2001, `pax Header Block`, `pax Extended Header`)."""
    encoded = name.encode("utf-8")
    records = b""
    if len(encoded) > 100 or not encoded.isascii():
        records += _record(b"path", encoded)
    if size_bytes >= _USTAR_SIZE_LIMIT:
        records += _record(b"size", b"%d" % size_bytes)
        size_bytes = 0
    header = _ustar(encoded[:100], size_bytes, b"0")
    if not records:
        return header
    return _ustar(_PAX_NAME, len(records), b"x") + records + bytes(padding_bytes(len(records))) + header


def header_read(take: Callable[[int], bytes]) -> tuple[str, int]:
    """Name and size of the next member, after making its header again and comparing all of its bytes. `take(n)` gives the next n bytes.

    Raises HeaderMalformedError, and what `take` raises.
    """
    found = take(BLOCK_BYTES)
    name, size_bytes, more = header_parse(found)
    if more:
        if more > _PAX_BLOCKS_MAX:
            raise HeaderMalformedError("a pax header beyond any that a path and a size need")
        found += take(more * BLOCK_BYTES)
        name, size_bytes, _ = header_parse(found)
    if header_encode(name, size_bytes) != found:
        raise HeaderMalformedError(f"a header of {name[:100]!r} that is not in canonical form")
    return name, size_bytes


def header_parse(blocks: bytes) -> tuple[str, int, int]:
    """Name and size that header blocks state, and how many further blocks are needed before they can be told (0: none).

    Reads only the fields that vary: the caller encodes the answer again and compares. Raises HeaderMalformedError.
    """
    if blocks[156:157] == b"x":
        length = _size_field(blocks)
        needed = 1 + (length + BLOCK_BYTES - 1) // BLOCK_BYTES + 1
        if len(blocks) == BLOCK_BYTES:
            return "", 0, needed - 1
        records = blocks[BLOCK_BYTES : BLOCK_BYTES + length]
        header = blocks[-BLOCK_BYTES:]
    else:
        records, header = b"", blocks
    if header[156:157] != b"0":
        raise HeaderMalformedError(f"a member of type {header[156:157]!r}")
    name, size_bytes = header[:100].rstrip(b"\0"), _size_field(header)
    while records:
        match = _RECORD.match(records)
        if match is None or match.end() != int(match.group(1)):
            raise HeaderMalformedError("a pax record other than path or size")
        if match.group(2) == b"path":
            name = match.group(3)
        elif re.fullmatch(rb"[1-9][0-9]{0,18}", match.group(3)):
            size_bytes = int(match.group(3))
        else:
            raise HeaderMalformedError("a pax size that is no number")
        records = records[match.end() :]
    try:
        return name.decode("utf-8"), size_bytes, 0
    except UnicodeDecodeError as error:
        raise HeaderMalformedError("a name that is not UTF-8") from error


def _size_field(header: bytes) -> int:
    field = header[124:136]
    if _OCTAL.fullmatch(field) is None:
        raise HeaderMalformedError("a size that is not 11 octal digits")
    return int(field[:11], 8)


def _record(key: bytes, value: bytes) -> bytes:
    """`<length> <key>=<value>\\n`, where the length counts its own digits."""
    bare = len(key) + len(value) + 3
    length = bare + len(str(bare))
    if bare + len(str(length)) != length:
        length = bare + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _ustar(name: bytes, size_bytes: int, kind: bytes) -> bytes:
    before = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" + b"0000000\0" + b"%011o\0" % size_bytes + b"00000000000\0"
    after = (kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" + b"0000000\0").ljust(BLOCK_BYTES - 156, b"\0")
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\0 " % checksum + after
