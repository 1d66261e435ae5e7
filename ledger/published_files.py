"""The published files against the leaves that they hold, recomputed leaf by leaf; a tile of each level is in memory."""

from __future__ import annotations

from collections.abc import Iterator

from ledger.faults import Fault, FaultCode
from ledger.publication import bundle_name, published_file, tile_name
from ledger.tiles import LEVEL_MAX
from workers.protocol.merkle import tree_root
from workers.protocol.tlog_tiles import TILE_WIDTH


class PublishedFiles:
    """`size`: how many leaves are published; files beyond are not looked for. `checked`: how many files were compared."""

    def __init__(self, size: int) -> None:
        self.checked = 0
        self._size = size
        self._leaves = 0
        self._bundle: list[bytes] = []
        self._levels: list[list[bytes]] = [[] for _ in range(LEVEL_MAX + 1)]

    def append(self, data: bytes, hash_of_leaf: bytes) -> Iterator[Fault]:
        """The next leaf. Faults of the files that it completes."""
        if self._leaves >= self._size:
            return
        self._leaves += 1
        self._bundle.append(len(data).to_bytes(2, "big") + data)
        if len(self._bundle) == TILE_WIDTH:
            yield from self._compare(bundle_name(self._leaves // TILE_WIDTH - 1), b"".join(self._bundle))
            self._bundle = []
        node = hash_of_leaf
        for level, hashes in enumerate(self._levels):
            hashes.append(node)
            if len(hashes) < TILE_WIDTH:
                return
            yield from self._compare(tile_name(level, self._leaves // TILE_WIDTH ** (level + 1) - 1), b"".join(hashes))
            node = tree_root(hashes)
            hashes.clear()

    def _compare(self, name: str, expected: bytes) -> Iterator[Fault]:
        self.checked += 1
        found = published_file(name)
        if found is None:
            yield Fault(FaultCode.FILE_MISSING, f"{name}: expected a published file, found none")
        elif found != expected:
            yield Fault(FaultCode.FILE_WRONG, f"{name}: expected what the database holds, found something else")
