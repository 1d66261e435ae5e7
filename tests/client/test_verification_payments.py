"""The offline verifier, on who was paid: entries, their proofs, the checkpoint, and the log's epoch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from client.verification import bundle_verify
from tests.client import bundle_parts as parts
from tests.client.bundle_parts import COORDINATOR, NODES, PINNED, STRANGER, Members, Run, refusal
from workers.protocol.bundles import BundleInvalidError
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import digest_of
from workers.protocol.errors import (
    JsonMalformedError,
    KeyWrongError,
    ProofInvalidError,
)
from workers.protocol.signed_note import note_open, note_sign


def _paid(runs: list[Run], leaves: list[bytes]) -> Members:
    return parts.sealed(parts.members_make(runs, parts.index_make(runs, leaves=leaves)))


@pytest.mark.parametrize(
    ("evidence", "what"),
    [
        ({"receipt": digest_of(b"other")}, "receipt that was paid"),
        ({"node_key": NODES[1].public.key_id}, "node_key that was paid"),
        ({"replica": str(parts.JOB_ID)}, "replica that was paid"),
        ({"job": str(UUID(int=5))}, "job that was paid"),
    ],
)
def test_payment_of_something_else_is_refused(tmp_path: Path, runs: list[Run], evidence: dict[str, str], what: str) -> None:
    leaves = [parts.payment_leaf(runs[0], **evidence), parts.payment_leaf(runs[1])]
    assert what in str(refusal(tmp_path, _paid(runs, leaves)))


def test_entry_of_another_kind_pays_nobody(tmp_path: Path, runs: list[Run]) -> None:
    leaf = json.loads(parts.payment_leaf(runs[0]))
    leaf["kind"] = "refund"
    assert "kind of the entry" in str(refusal(tmp_path, _paid(runs, [canonical_json(leaf), parts.payment_leaf(runs[1])])))


def test_payments_swapped_between_replicas_are_refused(tmp_path: Path, runs: list[Run]) -> None:
    assert "that was paid" in str(refusal(tmp_path, _paid(runs, [parts.payment_leaf(runs[1]), parts.payment_leaf(runs[0])])))


@pytest.mark.parametrize(
    "leaf", [b"[]", b"{}", b'{"kind":"payment"}', b'{"kind":"payment","evidence":[]}', b"no JSON", b"3", b'{"kind":"refund"}']
)
def test_leaf_that_is_no_payment_is_refused(tmp_path: Path, runs: list[Run], leaf: bytes) -> None:
    error = refusal(tmp_path, _paid(runs, [leaf, parts.payment_leaf(runs[1])]))
    assert isinstance(error, BundleInvalidError | JsonMalformedError)


@pytest.mark.parametrize("postings", [[], [{"amount_micro": "much"}], [{}], 7, [{"amount_micro": "9" * 5000}]])
def test_payment_without_an_amount_is_refused(tmp_path: Path, runs: list[Run], postings: Any) -> None:
    leaf = json.loads(parts.payment_leaf(runs[0]))
    leaf["postings"] = postings
    assert "no payment" in str(refusal(tmp_path, _paid(runs, [canonical_json(leaf), parts.payment_leaf(runs[1])])))


def test_proof_of_another_place_is_refused(tmp_path: Path, members: Members) -> None:
    def change(index: dict[str, Any]) -> None:
        index["replicas"][0]["payment"]["index"] = 3

    assert isinstance(refusal(tmp_path, parts.index_changed(members, change)), ProofInvalidError)


@pytest.mark.parametrize("field", ["leaf", "proof"])
def test_proof_that_is_no_base64_is_refused(tmp_path: Path, members: Members, field: str) -> None:
    def change(index: dict[str, Any]) -> None:
        index["replicas"][0]["payment"][field] = "%" if field == "leaf" else ["%"]

    assert "base64" in str(refusal(tmp_path, parts.index_changed(members, change)))


def test_checkpoint_signed_by_another_key_is_refused(tmp_path: Path, runs: list[Run]) -> None:
    index = parts.index_make(runs, signer=STRANGER)
    assert isinstance(refusal(tmp_path, parts.sealed(parts.members_make(runs, index))), KeyWrongError)


def test_checkpoint_of_another_log_under_this_logs_signature_is_refused(tmp_path: Path, members: Members) -> None:
    def change(index: dict[str, Any]) -> None:
        note = note_open(index["ledger"]["checkpoint"].encode(), name=parts.LOG_ORIGIN, key=COORDINATOR.public)
        other = note.replace(parts.LOG_ORIGIN, "elsewhere.example/ledger")
        index["ledger"]["checkpoint"] = note_sign(other, parts.LOG_ORIGIN, COORDINATOR).decode()

    assert "origin of the checkpoint" in str(refusal(tmp_path, parts.index_changed(members, change)))


def test_payment_without_a_checkpoint_is_refused(tmp_path: Path, members: Members) -> None:
    def change(index: dict[str, Any]) -> None:
        index["ledger"] = None

    assert "checkpoint" in str(refusal(tmp_path, parts.index_changed(members, change)))


def test_checkpoint_of_a_later_epoch_verifies(tmp_path: Path, members: Members) -> None:
    later = f"{parts.LOG_ORIGIN}/2"

    def change(index: dict[str, Any]) -> None:
        text = note_open(index["ledger"]["checkpoint"].encode(), name=parts.LOG_ORIGIN, key=COORDINATOR.public)
        text = text.replace(parts.LOG_ORIGIN, later)
        index["ledger"] = {"origin": later, "checkpoint": note_sign(text, later, STRANGER, COORDINATOR).decode()}

    path = parts.zip_write(tmp_path / "b.zip", parts.index_changed(members, change))
    assert bundle_verify(path, coordinator_key_id=parts.PINNED).checkpoint_size is not None


@pytest.mark.parametrize("number", ["1", "02", "0", "-2", "x", "2/3", "99999", ""])
def test_ledger_of_an_epoch_that_is_none_is_refused(tmp_path: Path, members: Members, number: str) -> None:
    def change(index: dict[str, Any]) -> None:
        index["ledger"]["origin"] = f"{parts.LOG_ORIGIN}/{number}"

    assert "ledger origin" in str(refusal(tmp_path, parts.index_changed(members, change)))


@pytest.mark.parametrize("origin", ["elsewhere.example/ledger", "portal.example"])
def test_ledger_of_another_portal_is_refused(tmp_path: Path, members: Members, origin: str) -> None:
    def change(index: dict[str, Any]) -> None:
        index["ledger"]["origin"] = origin

    assert "ledger origin" in str(refusal(tmp_path, parts.index_changed(members, change)))


def test_origin_that_is_no_address_is_refused(tmp_path: Path, runs: list[Run]) -> None:
    broken = "http://[x"
    again = [parts.run_make(tmp_path, number, key, origin=broken) for number, key in enumerate(NODES, start=1)]
    index = {**parts.index_make(again), "origin": broken}
    assert "origin" in str(refusal(tmp_path, parts.sealed(parts.members_make(again, index))))


def test_payment_that_is_not_integrated_yet_is_reported_as_open(tmp_path: Path, members: Members) -> None:
    def change(index: dict[str, Any]) -> None:
        index["replicas"][1]["payment"] = None

    path = parts.zip_write(tmp_path / "b.zip", parts.index_changed(members, change))
    assert [one.paid_micro for one in bundle_verify(path, coordinator_key_id=PINNED).replicas] == [parts.PAID_MICRO, None]
