"""Leaves of the log: what every kind may be, and that anything else is refused with its own error."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.protocol.vector_files import VECTORS
from workers.protocol.leaves import EntryLeaf, LeafMalformedError, NodeKeyLeaf, ReceiptLeaf, leaf_parse, spot_chosen

LEAVES = {leaf["kind"]: leaf for leaf in VECTORS["ledger"]["leaves"]}


def parsed(document: Any) -> Any:
    return leaf_parse(json.dumps(document).encode())


@pytest.mark.parametrize("text", VECTORS["ledger"]["leaf_texts"])
def test_every_leaf_of_the_vectors_is_read(text: str) -> None:
    leaf = leaf_parse(text.encode())
    assert leaf.model_dump(mode="json")["key"] == json.loads(text)["key"]


def test_kinds_are_told_apart() -> None:
    assert isinstance(parsed(LEAVES["payment"]), EntryLeaf)
    assert isinstance(parsed(LEAVES["node_key"]), NodeKeyLeaf)
    assert isinstance(parsed(LEAVES["receipt"]), ReceiptLeaf)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("payment", {"kind": "gift"}),
        ("payment", {"entry": "0"}),
        ("payment", {"entry": 3}),
        ("payment", {"postings": []}),
        ("payment", {"postings": [{"account": str(uuid.uuid4()), "amount_micro": "1"}]}),
        ("payment", {"postings": [{"account": str(uuid.uuid4()), "amount_micro": "01"}] * 2}),
        ("payment", {"postings": [{"account": str(uuid.uuid4()), "amount_micro": 1}] * 2}),
        ("payment", {"at": "2027-01-15T08:00:00"}),
        ("payment", {"key": ""}),
        ("payment", {"surplus": 1}),
        ("receipt", {"receipt": "sha256:00"}),
        ("receipt", {"quorum": 0}),
        ("receipt", {"envelope": "text"}),
        ("receipt", {"spot": {"spot_key": str(uuid.uuid4())}}),
        ("spot_key", {"secret": "00"}),
        ("spot_commitment", {"commitment": "00"}),
        ("node_key", {"node": "bench-1"}),
    ],
)
def test_a_leaf_with_a_member_that_cannot_be_is_refused(kind: str, change: dict[str, Any]) -> None:
    with pytest.raises(LeafMalformedError) as caught:
        parsed({**LEAVES[kind], **change})
    assert caught.value.code == "leaf_malformed"


@pytest.mark.parametrize("kind", list(LEAVES))
def test_a_leaf_without_one_of_its_members_is_refused(kind: str) -> None:
    for name in LEAVES[kind]:
        with pytest.raises(LeafMalformedError):
            parsed({other: value for other, value in LEAVES[kind].items() if other != name})


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"null", b"{", b"\xff", b"{}" + b" " * 65_534])
def test_bytes_that_are_no_object_are_refused(data: bytes) -> None:
    with pytest.raises(LeafMalformedError):
        leaf_parse(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_leaf_or_refused(data: bytes) -> None:
    with pytest.raises(LeafMalformedError):
        leaf_parse(data)


@given(job=st.uuids(), secret=st.binary(min_size=32, max_size=32), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_larger_share_chooses_all_that_a_smaller_one_does(job: uuid.UUID, secret: bytes, shares: tuple[float, float]) -> None:
    small, large = sorted(shares)
    if spot_chosen(secret=secret, job_id=job, share=small):
        assert spot_chosen(secret=secret, job_id=job, share=large)
    assert not spot_chosen(secret=secret, job_id=job, share=0.0)
    assert spot_chosen(secret=secret, job_id=job, share=1.0)


def test_a_share_chooses_about_so_many() -> None:
    chosen = sum(spot_chosen(secret=bytes(32), job_id=uuid.UUID(int=number), share=0.1) for number in range(10_000))
    assert 850 < chosen < 1150
