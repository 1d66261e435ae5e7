"""The Merkle tree (RFC 9162) recomputed from leaves, in the shape of C2SP tlog-tiles, holding at most 256 hashes a level."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from workers.protocol.merkle import CompactRange
from workers.protocol.tlog_tiles import TILE_WIDTH

_SHA256 = hashlib.sha256


@dataclass
class TiledTree:
    """Grows by leaf hashes; `tile_done(level, index, hashes)` is told of each tile when it is full, lowest level first."""

    tile_done: Callable[[int, int, Sequence[bytes]], None]
    size: int = 0
    levels: list[list[bytes]] = field(default_factory=lambda: [[]])
    """For each level the hashes of its unfinished tile: fewer than 256."""

    def append(self, hash_of_leaf: bytes) -> None:
        """The next leaf, by its 32-byte hash."""
        self.size += 1
        level, node = 0, hash_of_leaf
        while True:
            tile = self.levels[level]
            tile.append(node)
            if len(tile) < TILE_WIDTH:
                return
            self.tile_done(level, (self.size >> 8 * (level + 1)) - 1, tile)
            node = _tile_root(tile)
            self.levels[level] = []
            level += 1
            if level == len(self.levels):
                self.levels.append([])

    def root(self) -> bytes:
        """The root over all leaves so far."""
        hashes: list[bytes] = []
        for tile in reversed(self.levels):
            part = CompactRange()
            part.extend(tile)
            hashes += part.hashes
        return CompactRange(self.size, hashes).root()

    def edge(self) -> list[tuple[int, int, Sequence[bytes]]]:
        """The unfinished tiles, as (level, index, hashes), lowest level first."""
        return [(level, self.size >> 8 * (level + 1), tile) for level, tile in enumerate(self.levels) if tile]


def _tile_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 256 hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [_SHA256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)]
    return row[0]
