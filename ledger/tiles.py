"""The Merkle log as tiles (C2SP tlog-tiles) and the roots of its subtrees.

A tile of level 0 holds up to 256 leaf hashes, one of level L up to 256 roots of full tiles of level L - 1. Full tiles never change, so they
are cached for good, here and by whoever reads them; losing the cache loses time only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        hashes = _full_roots(level - 1, first, width)
    if width == TILE_WIDTH:
        cache.set(key, b"".join(hashes), timeout=None)
    return hashes


def roots_keep(first: int, tiles: Sequence[Sequence[bytes]]) -> None:
    """For who has the hashes of full tiles of level 0 at hand, from tile `first` on: the tile above them then reads none of them."""
    roots = {_root_key(0, first + place, hashes[-1]): tree_root(hashes) for place, hashes in enumerate(tiles)}
    cache.set_many(roots, timeout=None)


def range_root(start: int, end: int) -> bytes:
    """The root over the leaves [start, end), as RFC 9162 splits them; `start` must be where such a subtree begins."""
    return range_roots([(start, end)])[0]


def range_roots(ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """As range_root, of each: a tile that several of them are in is read once."""
    parts = [_perfect_subtrees(start, end) for start, end in ranges]
    needed: dict[tuple[int, int], int] = {}
    for subtree in (one for part in parts for one in part):
        needed[subtree.tile] = max(needed.get(subtree.tile, 0), subtree.offset + subtree.count)
    read = {(level, index): tile_hashes(level, index, _width(level, index, width)) for (level, index), width in needed.items()}
    return [_joined([tree_root(read[one.tile][one.offset : one.offset + one.count]) for one in part]) for part in parts]


@dataclass(frozen=True)
class _Subtree:
    """`count` hashes of a tile, a power of two, from `offset` on."""

    tile: tuple[int, int]
    offset: int
    count: int


def _perfect_subtrees(start: int, end: int) -> list[_Subtree]:
    """What RFC 9162 splits a range into, largest first."""
    found = []
    while size := end - start:
        bits = size.bit_length() - 1
        level = min(bits // _TILE_BITS, LEVEL_MAX)
        index, offset = divmod(start >> (level * _TILE_BITS), TILE_WIDTH)
        found.append(_Subtree((level, index), offset, (1 << bits) >> (level * _TILE_BITS)))
        start += 1 << bits
    return found


def _joined(roots: list[bytes]) -> bytes:
    root = roots[-1]
    for left in reversed(roots[:-1]):
        root = node_hash(left, root)
    return root


def _full_roots(level: int, first: int, count: int) -> list[bytes]:
    """The roots of `count` full tiles of `level` from tile `first` on, which the log has."""
    ends = [((place + 1) << (_TILE_BITS * (level + 1))) - 1 for place in range(first, first + count)]
    last_leaves = dict(LogLeaf.objects.filter(index__in=ends).values_list("index", "hash"))
    keys = [_root_key(level, first + place, bytes(last_leaves[end])) for place, end in enumerate(ends)]
    kept: dict[str, bytes] = cache.get_many(keys)
    made = {key: tree_root(tile_hashes(level, first + place)) for place, key in enumerate(keys) if key not in kept}
    if made:
        cache.set_many(made, timeout=None)
    return [(kept | made)[key] for key in keys]


def _root_key(level: int, index: int, last_leaf: bytes) -> str:
    return f"ledger:tile-root:{level}:{index}:{last_leaf.hex()}"


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
