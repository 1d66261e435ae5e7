"""Tiles and the proofs made from them, around the sizes where tiles fill up."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.core.cache import cache
from django.db import transaction
from pytest_django import DjangoAssertNumQueries

from ledger import tiles
from ledger.checkpoints import checkpoint_publish
from ledger.models import LogLeaf
from ledger.selectors import consistency_proof_of, inclusion_proof_of
from ledger.services import grant_post
from tests.factories.ledger import account_make, leaves_insert
from workers.protocol.canonical import canonical_json
from workers.protocol.leaves import LEAF_BYTES_MAX
from workers.protocol.merkle import (
    consistency_proof,
    consistency_verify,
    inclusion_proof,
    inclusion_verify,
    leaf_hash,
    tree_root,
)

LEAVES = 2 * 256 + 3


@pytest.fixture
def log(db: None) -> Iterator[list[bytes]]:
    """The leaf hashes of a log of LEAVES leaves, and an empty cache around it."""
    cache.clear()
    with transaction.atomic():
        yield [leaf_hash(data) for data in leaves_insert(LEAVES)]
        transaction.set_rollback(True)


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 511, 512, 513, LEAVES])
def test_inclusion_proofs_from_tiles_are_those_of_the_whole_tree(log: list[bytes], size: int) -> None:
    root = tree_root(log[:size])
    for index in {0, 1, 127, 128, 254, 255, 256, 257, 510, 511, 512, size - 1} & set(range(size)):
        proof = inclusion_proof_of(index=index, size=size)
        assert proof == inclusion_proof(log, index, size)
        inclusion_verify(log[index], index, size, proof, root)


@pytest.mark.parametrize("new", [1, 2, 255, 256, 257, 512, 513, LEAVES])
def test_consistency_proofs_from_tiles_are_those_of_the_whole_tree(log: list[bytes], new: int) -> None:
    for old in {0, 1, 2, 3, 128, 255, 256, 257, 384, 511, 512, new - 1, new} & set(range(new + 1)):
        proof = consistency_proof_of(old=old, new=new)
        assert proof == consistency_proof(log, old, new)
        consistency_verify(old, new, proof, tree_root(log[:old]), tree_root(log[:new]))


def test_tiles_hold_leaf_hashes_and_above_them_roots_of_full_tiles(log: list[bytes]) -> None:
    assert tiles.tile_hashes(0, 0) == log[:256]
    assert tiles.tile_hashes(0, 1, 7) == log[256:263]
    assert tiles.tile_hashes(0, 2, 3) == log[512:]
    assert tiles.tile_hashes(1, 0, 2) == [tree_root(log[:256]), tree_root(log[256:512])]


@pytest.mark.parametrize(("level", "index", "width"), [(0, 2, 4), (0, 2, 256), (0, 3, 1), (1, 0, 3), (1, 0, 256), (1, 1, 1), (7, 0, 1)])
def test_tile_that_the_log_has_not_reached_is_missing(log: list[bytes], level: int, index: int, width: int) -> None:
    with pytest.raises(tiles.TileMissingError):
        tiles.tile_hashes(level, index, width)


@pytest.mark.parametrize("index", [10**18 - 1, 2**60])
def test_tile_beyond_what_the_database_counts_is_missing(log: list[bytes], index: int) -> None:
    for level in range(tiles.LEVEL_MAX + 1):
        with pytest.raises(tiles.TileMissingError):
            tiles.tile_hashes(level, index)
    with pytest.raises(tiles.TileMissingError):
        tiles.entry_bundle(index)


def test_full_tile_is_read_once_and_then_kept(log: list[bytes], django_assert_num_queries: object) -> None:
    tiles.tile_hashes(0, 0)
    with django_assert_num_queries(1):  # type: ignore[operator]  # the last leaf, to name the content
        assert tiles.tile_hashes(0, 0) == log[:256]


def test_a_proof_reads_each_tile_once(log: list[bytes], django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    size = len(log)
    for index in (0, 300, size - 1):
        inclusion_proof_of(index=index, size=size)
        # Two tiles of leaves at most, and the one above: whether it is full, its last leaf, what is in it.
        with django_assert_max_num_queries(9):
            assert inclusion_proof_of(index=index, size=size) == inclusion_proof(log, index, size)


def test_cache_of_another_log_is_not_believed(db: None) -> None:
    cache.clear()
    for prefix in ("before", "after a restore"):
        with transaction.atomic():
            hashes = [leaf_hash(data) for data in leaves_insert(256, prefix=prefix)]
            assert tiles.tile_hashes(0, 0) == hashes
            transaction.set_rollback(True)


def test_entry_bundle_holds_each_leaf_after_its_length(db: None) -> None:
    with transaction.atomic():
        data = leaves_insert(3)
        bundle = tiles.entry_bundle(0, 3)
        with pytest.raises(tiles.TileMissingError):
            tiles.entry_bundle(0, 4)
        transaction.set_rollback(True)
    found = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        found.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    assert found == data


@pytest.mark.django_db
@pytest.mark.parametrize("character", ["x", "\x01", "\u00e9", "\U0010ffff"], ids=ascii)
def test_largest_leaf_that_can_be_posted_has_a_length_of_two_bytes(character: str) -> None:
    account = account_make()
    width = len(canonical_json({"n": character})) - len(canonical_json({"n": ""}))

    def post(count: int) -> None:
        grant_post(to=account, amount_micro=2**53, reason=character * count, idempotency_key="k")

    with pytest.raises(ValueError, match="expected a leaf of at most 65535 bytes") as caught:
        post(LEAF_BYTES_MAX // width)
    excess = int(re.findall(r"found (\d+)", str(caught.value))[0]) - LEAF_BYTES_MAX
    post(LEAF_BYTES_MAX // width - -(-excess // width))
    checkpoint_publish()
    [leaf] = [bytes(data) for data in LogLeaf.objects.values_list("item__data", flat=True)]
    assert 2**16 - 1 - width < len(leaf) < 2**16
    bundle = tiles.entry_bundle(0, 1)
    assert (int.from_bytes(bundle[:2], "big"), bundle[2:]) == (len(leaf), leaf)
