"""The Merkle log as tiles (C2SP tlog-tiles) and the roots of its subtrees.

A tile of level 0 holds up to 256 leaf hashes, one of level L up to 256 roots of full tiles of level L - 1. Full tiles never change, so they
are cached for good, here and by whoever reads them; losing the cache loses time only.
"""

from __future__ import annotations

from django.core.cache import cache

from ledger.models import LogLeaf
from workers.protocol.merkle import HASH_BYTES, node_hash, tree_root
from workers.protocol.tlog_tiles import TILE_WIDTH

_TILE_BITS = 8
LEVEL_MAX = 7


class TileMissingError(LookupError):
    """The log does not have that many leaves."""


def tile_hashes(level: int, index: int, width: int = TILE_WIDTH) -> list[bytes]:
    """The first `width` hashes of tile `index` of `level`, each 32 bytes. Raises TileMissingError."""
    first = index * TILE_WIDTH
    last_leaf = LogLeaf.objects.filter(index=((first + width) << (_TILE_BITS * level)) - 1).values_list("hash", flat=True).first()
    if last_leaf is None:
        raise TileMissingError(f"Tile {index} of level {level} does not have {width} hashes yet.")
    # Names the content: a log that was restored from a backup and went on otherwise has another last leaf under the same index.
    key = f"ledger:tile:{level}:{index}:{bytes(last_leaf).hex()}"
    if width == TILE_WIDTH and (kept := cache.get(key)) is not None:
        return [kept[start : start + HASH_BYTES] for start in range(0, len(kept), HASH_BYTES)]
    if level == 0:
        leaves = LogLeaf.objects.filter(index__gte=first, index__lt=first + width).order_by("index").values_list("hash", flat=True)
        hashes = [bytes(one) for one in leaves]
    else:
        hashes = [tree_root(tile_hashes(level - 1, first + place)) for place in range(width)]
    if width == TILE_WIDTH:
        cache.set(key, b"".join(hashes), timeout=None)
    return hashes


def range_root(start: int, end: int) -> bytes:
    """The root over the leaves [start, end), as RFC 9162 splits them; `start` must be where such a subtree begins."""
    size = end - start
    if size & (size - 1) == 0:
        bits = size.bit_length() - 1
        level = min(bits // _TILE_BITS, LEVEL_MAX)
        place = start >> (level * _TILE_BITS)
        count = size >> (level * _TILE_BITS)
        offset = place % TILE_WIDTH
        width = _width(level, place // TILE_WIDTH, offset + count)
        return tree_root(tile_hashes(level, place // TILE_WIDTH, width)[offset : offset + count])
    middle = start + (1 << (size.bit_length() - 1))
    return node_hash(range_root(start, middle), range_root(middle, end))


def _width(level: int, index: int, needed: int) -> int:
    """The full width where the tile is full already (it is cached then), else just what is needed."""
    return TILE_WIDTH if _leaf_exists(((index + 1) << (_TILE_BITS * (level + 1))) - 1) else needed


def _leaf_exists(index: int) -> bool:
    """Indexes have no gaps, so the last leaf of a tile stands for all."""
    return LogLeaf.objects.filter(index=index).exists()


def entry_bundle(index: int, width: int = TILE_WIDTH) -> bytes:
    """The data of the leaves under tile `index` of level 0, each after its length as 2 bytes, big-endian. Raises TileMissingError."""
    first = index * TILE_WIDTH
    leaves = LogLeaf.objects.filter(index__gte=first, index__lt=first + width).order_by("index").values_list("item__data", flat=True)
    if not _leaf_exists(first + width - 1):
        raise TileMissingError(f"Entry bundle {index} does not have {width} entries yet.")
    return b"".join(len(data).to_bytes(2, "big") + bytes(data) for data in leaves)
