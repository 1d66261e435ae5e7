"""What must be true of the draw that has some `spot` jobs run twice.

1. A key's digest is in the log before any job that it chose for, and the key, once published, has that digest.
2. No job is concluded under a key that is public already: its draw could have been foreseen.
3. What was chosen is what the key draws (checked once it is published), and a chosen job asks two or more to agree.
"""

from __future__ import annotations

import math

from client.audit.books import Books, SpotKey
from client.audit.findings import FindingCode
from client.audit.names import key_check
from workers.protocol.digests import digest_of
from workers.protocol.leaves import ReceiptLeaf, SpotChoice, SpotCommitmentLeaf, SpotKeyLeaf

CHOSEN_QUORUM_MIN = 2


def commitment_check(books: Books, index: int, leaf: SpotCommitmentLeaf) -> None:
    """Keeps a commitment; the first one counts."""
    key_check(books, index, leaf, f"spot_commitment:{leaf.spot_key}")
    if books.spot_keys.get(leaf.spot_key.bytes) is not None:
        books.findings.add(FindingCode.SPOT_KEY_REPEATED, index, f"The key {leaf.spot_key} was committed to, or published, before.")
        return
    books.spot_keys.put(leaf.spot_key.bytes, SpotKey(leaf.commitment, None))


def spot_key_check(books: Books, index: int, leaf: SpotKeyLeaf) -> None:
    """Compares a published key with its commitment."""
    key_check(books, index, leaf, f"spot_key:{leaf.spot_key}")
    add = books.findings.add
    known = books.spot_keys.get(leaf.spot_key.bytes)
    if known is None or known.commitment is None:
        add(FindingCode.SPOT_KEY_UNCOMMITTED, index, f"The key {leaf.spot_key} is published without a commitment before.")
        known = known or SpotKey(None, None)
    elif digest_of(bytes.fromhex(leaf.secret)) != known.commitment:
        add(FindingCode.SPOT_KEY_WRONG, index, f"The key {leaf.spot_key} has another digest than {known.commitment}, its commitment.")
    if known.secret is not None:
        add(FindingCode.SPOT_KEY_REPEATED, index, f"The key {leaf.spot_key} was published before; the first counts.")
        return
    books.spot_keys.put(leaf.spot_key.bytes, SpotKey(known.commitment, leaf.secret))


def choice_check(books: Books, index: int, leaf: ReceiptLeaf, spot: SpotChoice) -> None:
    """Judges a choice as far as it can be now, and keeps it for when its key is published."""
    add = books.findings.add
    books.counts.spot_choices += 1
    known = books.spot_keys.get(spot.spot_key.bytes)
    if known is None:
        add(
            FindingCode.SPOT_KEY_UNCOMMITTED,
            index,
            f"The key {spot.spot_key} chose for the job {leaf.job}; the log has no commitment before.",
        )
    elif known.secret is not None:
        add(FindingCode.SPOT_KEY_EARLY, index, f"The key {spot.spot_key} was public before the job {leaf.job} was concluded.")
    if spot.chosen and leaf.quorum < CHOSEN_QUORUM_MIN:
        add(FindingCode.SPOT_QUORUM_LOW, index, f"The job {leaf.job} was chosen to run twice; its quorum is {leaf.quorum}.")
    if share_parse(spot.share) is None:
        add(FindingCode.SPOT_CHOICE_WRONG, index, f"The share of the job {leaf.job} is no number above 0 and up to 1: {spot.share!r}.")
        return
    books.spot_choices.append(spot.spot_key.hex, leaf.job.hex, spot.share, int(spot.chosen), index)


def share_parse(text: str) -> float | None:
    """The share, above 0 and up to 1, in the shortest form that reads back as the same double."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    return share if 0 < share <= 1 and repr(share) == text else None
