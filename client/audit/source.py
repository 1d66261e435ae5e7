"""Where a log is read from, and how its objects are named (C2SP tlog-tiles). All bytes are a stranger's."""

from __future__ import annotations

from typing import Final, Protocol

from client.audit.errors import AbsentError
from workers.protocol.leaves import LEAF_BYTES_MAX
from workers.protocol.merkle import HASH_BYTES
from workers.protocol.tlog_tiles import TILE_WIDTH, place_text

NOTE_LIMIT_BYTES: Final = 64 * 1024
DOCUMENT_LIMIT_BYTES: Final = 1024 * 1024
_LENGTH_BYTES: Final = 2
BUNDLE_LIMIT_BYTES: Final = TILE_WIDTH * (_LENGTH_BYTES + LEAF_BYTES_MAX)

CHECKPOINT: Final = "ledger/checkpoint"
EPOCHS: Final = "ledger/epochs"
COORDINATOR: Final = "coordinator"


class LogSource(Protocol):
    """Objects by their path below `/api/v1/`. Safe to use from several threads."""

    @property
    def name(self) -> str:
        """For people: an address or a folder."""

    @property
    def authority(self) -> str | None:
        """Host and port that were asked for; None for a mirror, which may lag behind and be anybody's."""

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        """The whole object. Raises AbsentError if there is none, SourceError if it can't be read or is larger than `limit_bytes`."""


class BundleMalformedError(Exception):
    """Bytes that are no bundle of so many entries."""


def hash_tile_read(source: LogSource, level: int, index: int, width: int) -> bytes:
    """The first `width` hashes of a tile, 32 bytes each; fewer bytes when the source has fewer. Raises SourceError."""
    limit_bytes = TILE_WIDTH * HASH_BYTES
    return _widest_read(source, f"ledger/tile/{level}/{place_text(index)}", width, limit_bytes)[: width * HASH_BYTES]


def entries_read(source: LogSource, index: int, width: int) -> list[bytes]:
    """The first `width` leaves below tile `index` of level 0. Raises SourceError, BundleMalformedError."""
    return bundle_split(_widest_read(source, f"ledger/tile/entries/{place_text(index)}", width, BUNDLE_LIMIT_BYTES), width)


def bundle_split(data: bytes, width: int) -> list[bytes]:
    """The first `width` leaves of a bundle, of which more may follow. Raises BundleMalformedError."""
    leaves: list[bytes] = []
    offset = 0
    while offset < len(data) and len(leaves) <= TILE_WIDTH:  # a stranger's 16 MiB could be 8 million empty ones
        start = offset + _LENGTH_BYTES
        offset = start + int.from_bytes(data[start - _LENGTH_BYTES : start], "big")
        if offset > len(data) or start > len(data):
            raise BundleMalformedError(f"entry {len(leaves)} of it is cut off")
        leaves.append(data[start:offset])
    if not width <= len(leaves) <= TILE_WIDTH:
        raise BundleMalformedError(f"expected {width} entries, found {len(leaves)}")
    return leaves[:width]


def _widest_read(source: LogSource, path: str, width: int, limit_bytes: int) -> bytes:
    """A partial tile, or the full one that has taken its place."""
    if width < TILE_WIDTH:
        try:
            return source.read(f"{path}.p/{width}", limit_bytes=limit_bytes)
        except AbsentError:
            pass
    return source.read(path, limit_bytes=limit_bytes)
