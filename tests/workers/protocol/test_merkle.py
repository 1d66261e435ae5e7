"""The Merkle tree of RFC 9162: published vectors, and proofs over every small tree."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.protocol.errors import ProofInvalidError, ProofRangeError
from workers.protocol.merkle import (
    EMPTY_ROOT,
    CompactRange,
    consistency_proof,
    consistency_verify,
    inclusion_proof,
    inclusion_verify,
    leaf_hash,
    node_hash,
    tree_root,
)

# The test vectors of the Certificate Transparency reference implementation, used by all logs since (RFC 6962).
ENTRIES = [
    bytes.fromhex(entry)
    for entry in [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCY = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]

LEAVES = [leaf_hash(entry) for entry in ENTRIES]
MANY = [leaf_hash(b"%d" % number) for number in range(70)]
WRONG = leaf_hash(b"wrong")


def from_hex(hashes: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(one) for one in hashes]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert tree_root(LEAVES[:size]).hex() == ROOTS[size]
    compact = CompactRange()
    compact.extend(LEAVES[:size])
    assert compact.root().hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_inclusion_proofs_are_the_published_ones(index: int, size: int, proof: list[str]) -> None:
    assert inclusion_proof(LEAVES, index, size) == from_hex(proof)
    inclusion_verify(LEAVES[index], index, size, from_hex(proof), bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "new", "proof"), CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(old: int, new: int, proof: list[str]) -> None:
    assert consistency_proof(LEAVES, old, new) == from_hex(proof)
    consistency_verify(old, new, from_hex(proof), bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


def test_a_leaf_is_never_a_node() -> None:
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])


def recursive_root(leaves: list[bytes]) -> bytes:
    """Section 2.1.1, word for word: a second way to the root."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


def test_the_compact_range_has_the_root_of_the_definition_at_every_size() -> None:
    compact = CompactRange()
    for size, leaf in enumerate(MANY):
        assert compact.root() == recursive_root(MANY[:size])
        compact.append(leaf)
    assert compact.size == len(MANY)


def test_a_compact_range_continues_from_what_was_stored_of_it() -> None:
    compact = CompactRange()
    compact.extend(MANY[:37])
    stored = CompactRange(compact.size, list(compact.hashes))
    copied = compact.copy()
    stored.extend(MANY[37:])
    assert stored.root() == tree_root(MANY)
    assert copied == compact
    assert compact.root() == tree_root(MANY[:37])


@pytest.mark.parametrize(("size", "hashes"), [(-1, []), (0, [WRONG]), (2, []), (3, [WRONG]), (1, [b"short"])])
def test_a_compact_range_whose_hashes_do_not_fit_its_size_is_refused(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(ProofRangeError):
        CompactRange(size, hashes)


def test_a_leaf_hash_of_another_length_is_not_appended() -> None:
    with pytest.raises(ProofRangeError):
        CompactRange().append(b"short")


@pytest.mark.parametrize("size", range(1, 34))
def test_every_inclusion_proof_verifies_and_only_for_its_leaf_place_and_size(size: int) -> None:
    root = tree_root(MANY[:size])
    for index in range(size):
        proof = inclusion_proof(MANY, index, size)
        inclusion_verify(MANY[index], index, size, proof, root)
        wrong = [
            (WRONG, index, size, proof, root),
            (MANY[index], index, size, proof, WRONG),
            (MANY[index], index, size, [*proof, WRONG], root),
            (MANY[index], index, size, [WRONG, *proof], root),
            (MANY[index], index, size, [*proof, root], root),
            (MANY[index], index, size, [*proof, b""], root),
            (MANY[index], -1, size, proof, root),
            (MANY[index], size, size, proof, root),
            (MANY[index], index, 0, proof, root),
            (MANY[index], index, size * 2, proof, root),
            (MANY[index][:-1], index, size, proof, root),
            (MANY[index], index, size, proof, root + b"x"),
            *((MANY[index], other, size, proof, root) for other in range(size) if other != index),
            *((MANY[index], index, size, proof[:cut] + proof[cut + 1 :], root) for cut in range(len(proof))),
            *((MANY[index], index, size, [*proof[:at], WRONG, *proof[at + 1 :]], root) for at in range(len(proof))),
        ]
        for arguments in wrong:
            with pytest.raises(ProofInvalidError):
                inclusion_verify(*arguments)


@pytest.mark.parametrize("new", range(34))
def test_every_consistency_proof_verifies_and_only_for_its_sizes_and_roots(new: int) -> None:
    new_root = tree_root(MANY[:new])
    for old in range(new + 1):
        old_root = tree_root(MANY[:old])
        proof = consistency_proof(MANY, old, new)
        consistency_verify(old, new, proof, old_root, new_root)
        wrong = [
            (old, new, [*proof, WRONG], old_root, new_root),
            (old, new, [WRONG, *proof], old_root, new_root),
            (old, new, [*proof, b""], old_root, new_root),
            (old, new, proof, WRONG, new_root),
            (-1, new, proof, old_root, new_root),
            (new + 1, new, proof, old_root, new_root),
            (old, new, proof, old_root[:-1], new_root),
            *((old, new, proof[:cut] + proof[cut + 1 :], old_root, new_root) for cut in range(len(proof))),
            *((old, new, [*proof[:at], WRONG, *proof[at + 1 :]], old_root, new_root) for at in range(len(proof))),
        ]
        if old > 0:
            # The empty tree is the beginning of every tree, whatever its root.
            wrong.append((old, new, proof, old_root, WRONG))
        if 0 < old < new:
            wrong.append((old, new, proof, new_root, old_root))
            wrong.append((old, new * 2, proof, old_root, new_root))
            wrong.append((old, new, [], old_root, new_root))
        for arguments in wrong:
            with pytest.raises(ProofInvalidError):
                consistency_verify(*arguments)


def test_a_log_that_changed_an_entry_is_not_consistent_with_what_it_was() -> None:
    changed = [*MANY[:3], WRONG, *MANY[4:]]
    for old in range(4, 30):
        with pytest.raises(ProofInvalidError):
            consistency_verify(old, 40, consistency_proof(changed, old, 40), tree_root(MANY[:old]), tree_root(changed[:40]))


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, 9)])
def test_there_is_no_inclusion_proof_outside_of_the_tree(index: int, size: int) -> None:
    with pytest.raises(ProofRangeError):
        inclusion_proof(LEAVES, index, size)


@pytest.mark.parametrize(("old", "new"), [(-1, 3), (4, 3), (0, 9)])
def test_there_is_no_consistency_proof_outside_of_the_tree(old: int, new: int) -> None:
    with pytest.raises(ProofRangeError):
        consistency_proof(LEAVES, old, new)


HASHES = st.binary(min_size=31, max_size=33) | st.sampled_from(MANY[:4])


@settings(max_examples=200)
@given(HASHES, st.integers(-2, 2**65), st.integers(-2, 2**65), st.lists(HASHES, max_size=70), HASHES)
def test_any_proof_is_refused_with_the_documented_error(one: bytes, first: int, second: int, proof: list[bytes], root: bytes) -> None:
    try:
        inclusion_verify(one, first, second, proof, root)
    except ProofInvalidError:
        pass
    else:
        assert (first, second, proof, one) == (0, 1, [], root)
    try:
        consistency_verify(first, second, proof, one, root)
    except ProofInvalidError:
        pass
    else:
        assert not proof
        assert first in {0, second}
