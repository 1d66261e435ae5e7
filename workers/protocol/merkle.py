"""The Merkle tree of RFC 9162 (section 2.1) with SHA-256: hashing, proofs, and their verification.

Hashes are 32 raw bytes. A tree is given by its leaf hashes in order; `old`, `new` and `size` count leaves. Makers of
proofs read the leaf hashes that they need from a sequence; verifiers read nothing but their arguments.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from workers.protocol.errors import ProofInvalidError, ProofRangeError

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf that holds `entry`; its prefix keeps a leaf from being taken for a node."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above `left` and `right`."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass
class CompactRange:
    """The least that must be kept of a tree to append to it and to know its root.

    `hashes` are the roots of the complete subtrees that the tree consists of, largest (leftmost) first, one for each
    bit that is set in `size`: 0 to 64 of them. Appending costs one to two hashes on average. It keeps no leaves, so it
    makes no proofs. Raises ProofRangeError when `hashes` don't fit `size`.
    """

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ProofRangeError(f"{len(self.hashes)} hashes cannot stand for a tree of {self.size} leaves.")
        if any(len(one) != HASH_BYTES for one in self.hashes):
            raise ProofRangeError(f"Each hash must be {HASH_BYTES} bytes.")

    def append(self, hash_of_leaf: bytes) -> None:
        """Add the next leaf, by its leaf hash. Raises ProofRangeError unless it is 32 bytes."""
        if len(hash_of_leaf) != HASH_BYTES:
            raise ProofRangeError(f"A leaf hash is {HASH_BYTES} bytes; found {len(hash_of_leaf)}.")
        node = hash_of_leaf
        size = self.size
        while size & 1:
            node = node_hash(self.hashes.pop(), node)
            size >>= 1
        self.hashes.append(node)
        self.size += 1

    def extend(self, hashes_of_leaves: Iterable[bytes]) -> None:
        """Append each leaf hash in turn."""
        for one in hashes_of_leaves:
            self.append(one)

    def root(self) -> bytes:
        """The root hash of the tree so far."""
        if not self.hashes:
            return EMPTY_ROOT
        *rest, node = self.hashes
        for left in reversed(rest):
            node = node_hash(left, node)
        return node

    def copy(self) -> "CompactRange":
        """The same range, to append to without changing this one."""
        return CompactRange(self.size, list(self.hashes))


def tree_root(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root over all `leaf_hashes`, in time linear in their number (RFC 9162, section 2.1.1)."""
    compact = CompactRange()
    compact.extend(leaf_hashes)
    return compact.root()


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int, size: int) -> list[bytes]:
    """The proof that leaf `index` is in the tree of the first `size` leaves, deepest hash first (section 2.1.3.1).

    Raises ProofRangeError unless 0 <= index < size <= len(leaf_hashes).
    """
    if not 0 <= index < size <= len(leaf_hashes):
        raise ProofRangeError(f"There is no proof for leaf {index} in a tree of {size}: the log has {len(leaf_hashes)} leaves.")
    return [tree_root(leaf_hashes[start:end]) for start, end in inclusion_ranges(index, size)]


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """The proof of `inclusion_proof` as ranges of leaves [start, end): whoever keeps subtree roots need not hash leaves again.

    Raises ProofRangeError unless 0 <= index < size.
    """
    if not 0 <= index < size:
        raise ProofRangeError(f"There is no leaf {index} in a tree of {size}.")
    ranges: list[tuple[int, int]] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    ranges.reverse()
    return ranges


def consistency_proof(leaf_hashes: Sequence[bytes], old: int, new: int) -> list[bytes]:
    """The proof that the tree of `new` leaves begins with the tree of `old` leaves (section 2.1.4.1).

    Empty when `old` is 0 or equals `new`. Raises ProofRangeError unless 0 <= old <= new <= len(leaf_hashes).
    """
    if not 0 <= old <= new <= len(leaf_hashes):
        raise ProofRangeError(f"There is no proof from {old} to {new} leaves: the log has {len(leaf_hashes)}, and sizes only grow.")
    return [tree_root(leaf_hashes[start:end]) for start, end in consistency_ranges(old, new)]


def consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """The proof of `consistency_proof` as ranges of leaves [start, end). Raises ProofRangeError unless 0 <= old <= new."""
    if not 0 <= old <= new:
        raise ProofRangeError(f"There is no proof from {old} to {new} leaves: sizes only grow.")
    if old == 0:
        return []
    ranges: list[tuple[int, int]] = []
    start, end = 0, new
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    # The old tree's last complete subtree; when that is the whole old tree, the verifier has it already: its root.
    if start != 0:
        ranges.append((start, end))
    ranges.reverse()
    return ranges


def inclusion_verify(hash_of_leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return if `proof` shows that the tree of `size` leaves with this root has this leaf at `index`.

    RFC 9162, section 2.1.3.2. Raises ProofInvalidError.
    """
    if not 0 <= index < size:
        raise ProofInvalidError(f"A tree of {size} leaves has no leaf {index}.")
    _lengths_check([hash_of_leaf, *proof, root])
    node, last = index, size - 1
    found = hash_of_leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalidError("The inclusion proof is too long for this tree.")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node != 0:
                node >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise ProofInvalidError("The inclusion proof is too short for this tree.")
    if found != root:
        raise ProofInvalidError(f"The inclusion proof of leaf {index} leads to another root than that of {size} leaves.")


def consistency_verify(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Return if `proof` shows that the tree with `new_root` begins with the whole tree with `old_root`.

    RFC 9162, section 2.1.4.2, together with the two cases it leaves aside: every tree begins with the empty one, and
    with itself. Raises ProofInvalidError.
    """
    _lengths_check([*proof, old_root, new_root])
    if old <= 0 or old >= new:
        _trivial_consistency_verify(old, new, proof, old_root, new_root)
        return
    if not proof:
        raise ProofInvalidError("The consistency proof is empty.")
    # A complete old tree is a node of the new one, so its root stands for the first hash.
    rest = list(proof) if old & (old - 1) else [old_root, *proof]
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    found_old = found_new = rest[0]
    for sibling in rest[1:]:
        if last == 0:
            raise ProofInvalidError("The consistency proof is too long for these trees.")
        if node & 1 or node == last:
            found_old = node_hash(sibling, found_old)
            found_new = node_hash(sibling, found_new)
            while not node & 1 and node != 0:
                node >>= 1
                last >>= 1
        else:
            found_new = node_hash(found_new, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise ProofInvalidError("The consistency proof is too short for these trees.")
    if found_old != old_root or found_new != new_root:
        raise ProofInvalidError(f"The tree of {new} leaves does not begin with the {old} leaves of the old root.")


def _trivial_consistency_verify(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """The cases without a proof: `old` is 0, equals `new`, or is larger."""
    if not 0 <= old <= new:
        raise ProofInvalidError(f"A tree of {new} leaves cannot continue one of {old}.")
    if proof:
        raise ProofInvalidError("The consistency proof must be empty when the old tree is empty or the same.")
    if old == 0 and old_root != EMPTY_ROOT:
        raise ProofInvalidError("The root of an empty tree is the SHA-256 of nothing; this is another.")
    if old == new and old_root != new_root:
        raise ProofInvalidError(f"Two roots for one tree of {old} leaves: the log shows different histories.")


def _split(size: int) -> int:
    """The largest power of two smaller than `size`, for sizes from 2 on."""
    return 1 << ((size - 1).bit_length() - 1)


def _lengths_check(hashes: Sequence[bytes]) -> None:
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ProofInvalidError(f"Each hash must be {HASH_BYTES} bytes.")
