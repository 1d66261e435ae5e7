"""The offline verifier: a real bundle is accepted; every byte that somebody changed, and every way to lie with right bytes, is refused."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as OtherVerificationError
from securesystemslib.signer._key import SSlibKey

from client.verification import CoordinatorWrongError, bundle_verify
from tests.client import bundle_parts as parts
from tests.client.bundle_parts import ALL_MEMBERS, COORDINATOR, NODES, PINNED, SIGNED_MEMBERS, Members, Run, flipped, refusal
from workers.protocol.archives import ArchiveRefusedError
from workers.protocol.bundles import INDEX_NAME, SEAL_NAME, BundleInvalidError, index_parse
from workers.protocol.canonical import canonical_json
from workers.protocol.compute_log import LogRefusedError
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_sign, pae
from workers.protocol.errors import (
    DigestMismatchError,
    EnvelopeMalformedError,
    EnvelopeTypeWrongError,
    JsonMalformedError,
    KeyMalformedError,
    KeyWrongError,
    ProofInvalidError,
    SignatureInvalidError,
    StatementTypeWrongError,
    VerificationError,
)
from workers.protocol.keys import PrivateKey
from workers.protocol.signed_note import note_open, note_sign
from workers.protocol.strict_base64 import base64_decode

CHECKOUT = Path(__file__).resolve().parents[2]
HOST_PYTHON = CHECKOUT / ".venv-host" / "bin" / "python"
STRANGER = PrivateKey.from_raw(bytes(range(100, 132)))


def test_real_bundle_is_accepted_and_reported(tmp_path: Path, members: Members, runs: list[Run]) -> None:
    report = bundle_verify(parts.zip_write(tmp_path / "b.zip", members), coordinator_key_id=PINNED)
    assert (report.job_id, report.label, report.quorum) == (str(parts.JOB_ID), "sum-1", 2)
    assert (report.files, report.size_bytes, report.checkpoint_size) == (2, len(runs[0].archive), 5)
    assert [replica.node_key_id for replica in report.replicas] == [key.public.key_id for key in NODES]
    assert [replica.canonical for replica in report.replicas] == [True, False]
    assert [replica.paid_micro for replica in report.replicas] == [parts.PAID_MICRO] * 2
    assert report.result_digest == report.replicas[0].result_digest


# --- one byte ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [INDEX_NAME, *ALL_MEMBERS])
def test_one_changed_byte_in_any_member_is_refused_without_the_coordinators_help(tmp_path: Path, members: Members, name: str) -> None:
    """The ZIP's own checksums are made right again, so it is not they that refuse. The index included: all that it says is sealed."""
    data = members[name]
    for position in range(0, len(data), max(1, len(data) // 40)):
        changed = {**members, name: flipped(data, position, 0x01 if position % 2 else 0x20)}
        assert isinstance(refusal(tmp_path, changed), VerificationError), position


@pytest.mark.parametrize("name", [*SIGNED_MEMBERS, "replica-1/archive.tar"])
def test_one_changed_byte_is_refused_by_what_the_nodes_signed_even_if_sealed_again(tmp_path: Path, members: Members, name: str) -> None:
    """Here the coordinator itself signs over the change: then the node's signature, the chain and the manifest refuse it."""
    data = members[name]
    for position in range(0, len(data), max(1, len(data) // 40)):
        changed = parts.sealed({**members, name: flipped(data, position, 0x01 if position % 2 else 0x80)})
        assert isinstance(refusal(tmp_path, changed), VerificationError), position


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_of_any_member_is_refused(tmp_path: Path, members: Members, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(ALL_MEMBERS))
    position = data.draw(st.integers(0, len(members[name]) - 1))
    mask = data.draw(st.integers(1, 255))
    changed: Members = {**members, name: flipped(members[name], position, mask)}
    if name != SEAL_NAME and data.draw(st.booleans()):
        changed = parts.sealed(changed)
    refusal(tmp_path, changed)


@pytest.mark.parametrize("which", ["coordinator_public_key", "node_public_key"])
def test_one_changed_character_of_a_key_is_refused_even_if_sealed_again(tmp_path: Path, members: Members, which: str) -> None:
    text = COORDINATOR.public.to_base64() if which.startswith("coordinator") else NODES[0].public.to_base64()
    for position in range(len(text)):
        replacement = "A" if text[position] != "A" else "B"

        def change(index: dict[str, Any], position: int = position, replacement: str = replacement) -> None:
            target = index if which == "coordinator_public_key" else index["replicas"][0]
            target[which] = text[:position] + replacement + text[position + 1 :]

        error = refusal(tmp_path, parts.index_changed(members, change))
        assert isinstance(error, KeyMalformedError | CoordinatorWrongError | KeyWrongError | BundleInvalidError), position


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("replica-1/archive.tar", ArchiveRefusedError),
        ("replica-1/log.jsonl", LogRefusedError),
        ("replica-2/log.jsonl", LogRefusedError),
    ],
)
def test_content_changed_under_a_fresh_seal_gets_its_own_error(
    tmp_path: Path, members: Members, name: str, expected: type[VerificationError]
) -> None:
    middle = len(members[name]) // 3
    assert isinstance(refusal(tmp_path, parts.sealed({**members, name: flipped(members[name], middle, 1)})), expected)
    assert isinstance(refusal(tmp_path, {**members, name: flipped(members[name], middle, 1)}), DigestMismatchError)


@pytest.mark.parametrize("name", ["replica-1/order.json", "replica-1/receipt.json", SEAL_NAME])
def test_changed_payload_or_signature_is_an_invalid_signature(tmp_path: Path, members: Members, name: str) -> None:
    for field in ("payload", "signature"):
        envelope = json.loads(members[name])
        if field == "payload":
            envelope["payload"] = ("A" if envelope["payload"][0] != "A" else "B") + envelope["payload"][1:]
        else:
            text = envelope["signatures"][0]["sig"]
            envelope["signatures"][0]["sig"] = ("A" if text[0] != "A" else "B") + text[1:]
        changed = {**members, name: canonical_json(envelope)}
        assert isinstance(refusal(tmp_path, changed if name == SEAL_NAME else parts.sealed(changed)), SignatureInvalidError)


@pytest.mark.parametrize("name", ["replica-1/order.json", "replica-1/receipt.json"])
def test_envelope_in_another_spelling_is_refused(tmp_path: Path, members: Members, name: str) -> None:
    """White space in JSON is not signed: without this rule it could be changed unseen."""
    changed = parts.sealed({**members, name: json.dumps(json.loads(members[name])).encode()})
    assert "canonical" in str(refusal(tmp_path, changed))


# --- whose word ----------------------------------------------------------------------------------------------------------


def test_other_pinned_key_is_refused(tmp_path: Path, members: Members) -> None:
    with pytest.raises(CoordinatorWrongError):
        bundle_verify(parts.zip_write(tmp_path / "b.zip", members), coordinator_key_id=STRANGER.public.key_id)


def test_bundle_made_under_another_coordinator_is_refused(tmp_path: Path, members: Members) -> None:
    """Everything that the stranger can sign is signed by the stranger: only the pinned id tells."""
    index = json.loads(members[INDEX_NAME])
    index["coordinator_public_key"] = STRANGER.public.to_base64()
    assert isinstance(refusal(tmp_path, parts.sealed({**members, INDEX_NAME: canonical_json(index)}, STRANGER)), CoordinatorWrongError)


def test_seal_by_another_key_is_refused(tmp_path: Path, members: Members) -> None:
    assert isinstance(refusal(tmp_path, parts.sealed(members, STRANGER)), KeyWrongError)


def test_seal_that_leaves_a_member_out_is_refused(tmp_path: Path, members: Members) -> None:
    less = {name: data for name, data in members.items() if name != "replica-2/log.jsonl"}
    assert "seal" in str(refusal(tmp_path, {**parts.sealed(less), "replica-2/log.jsonl": members["replica-2/log.jsonl"]}))


def test_receipt_in_place_of_the_seal_is_refused(tmp_path: Path, members: Members, runs: list[Run]) -> None:
    """Statements of another type are no seals, whoever signed them."""
    receipt = envelope_sign(parts.payload_of(runs[0].receipt), PAYLOAD_TYPE_STATEMENT, COORDINATOR)
    assert isinstance(refusal(tmp_path, {**members, SEAL_NAME: receipt}), StatementTypeWrongError)


def test_order_in_place_of_a_receipt_is_refused(tmp_path: Path, members: Members, runs: list[Run]) -> None:
    order = envelope_sign(parts.payload_of(runs[0].order.envelope), PAYLOAD_TYPE_ORDER, NODES[0])
    assert isinstance(refusal(tmp_path, parts.sealed({**members, "replica-1/receipt.json": order})), EnvelopeTypeWrongError)


def test_order_signed_by_another_key_is_refused(tmp_path: Path, members: Members, runs: list[Run]) -> None:
    order = envelope_sign(parts.payload_of(runs[0].order.envelope), PAYLOAD_TYPE_ORDER, STRANGER)
    assert isinstance(refusal(tmp_path, parts.sealed({**members, "replica-1/order.json": order})), KeyWrongError)


def test_receipts_swapped_between_replicas_are_refused(tmp_path: Path, members: Members) -> None:
    one, two = "replica-1/receipt.json", "replica-2/receipt.json"
    assert isinstance(refusal(tmp_path, parts.sealed({**members, one: members[two], two: members[one]})), KeyWrongError)


@pytest.mark.parametrize("name", ["order.json", "log.jsonl"])
def test_orders_or_logs_swapped_between_replicas_are_refused(tmp_path: Path, members: Members, name: str) -> None:
    one, two = f"replica-1/{name}", f"replica-2/{name}"
    error = refusal(tmp_path, parts.sealed({**members, one: members[two], two: members[one]}))
    assert isinstance(error, LogRefusedError if name == "log.jsonl" else BundleInvalidError)


def test_archive_of_another_run_is_refused(tmp_path: Path, members: Members) -> None:
    """A well-formed archive that no receipt of the bundle names."""
    other = parts.run_make(tmp_path, 9, NODES[0], files={"energy.csv": b"step,energy\n1,-9.9\n"})
    error = refusal(tmp_path, parts.sealed({**members, "replica-1/archive.tar": other.archive}))
    assert "archive.tar as the receipt states it" in str(error)


def test_receipt_for_another_order_of_the_same_node_is_refused(tmp_path: Path, members: Members) -> None:
    other = parts.run_make(tmp_path, 9, NODES[0])
    error = refusal(tmp_path, parts.sealed({**members, "replica-1/receipt.json": other.receipt}))
    assert "order of the receipt" in str(error)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"origin": "https://elsewhere.example"}, "origin of the order"),
        ({"job_type": "other"}, "type of the order"),
        ({"node_key_id": NODES[1].public.key_id}, "node key of the order"),
        ({"image": parts.IMAGE.model_copy(update={"image_id": digest_of(b"other")})}, "image of the order"),
    ],
)
def test_order_for_another_portal_job_or_node_is_refused(tmp_path: Path, runs: list[Run], changed: dict[str, Any], what: str) -> None:
    other = parts.run_make(tmp_path, 1, NODES[0], **changed)
    assert what in str(refusal(tmp_path, parts.sealed(parts.members_make([other, runs[1]]))))


def _restated(run: Run, **changed: Any) -> Run:
    """The run with a receipt that its node signed after changing the predicate."""
    statement = json.loads(parts.payload_of(run.receipt))
    statement["predicate"].update(changed)
    receipt = envelope_sign(canonical_json(statement), PAYLOAD_TYPE_STATEMENT, run.key)
    return Run(run.key, run.order, run.log, run.archive, receipt)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"replica_id": str(parts.JOB_ID)}, "replica of the receipt"),
        ({"lease_id": str(parts.JOB_ID)}, "lease of the receipt"),
        ({"node_key_id": NODES[1].public.key_id}, "node key of the receipt"),
        ({"result_digest": digest_of(b"other")}, "result digest"),
        ({"archive": {"digest": digest_of(b"other"), "size_bytes": 5}}, "archive.tar as the receipt states it"),
        (
            {
                "outcome": "failed",
                "exit_code": 3,
                "failure": {"code": "exit_nonzero", "message": ""},
                "archive": None,
                "result_digest": None,
            },
            "outcome",
        ),
        ({"usage": None}, "ReceiptPredicate"),
    ],
)
def test_node_that_contradicts_itself_is_refused(tmp_path: Path, runs: list[Run], changed: dict[str, Any], what: str) -> None:
    error = refusal(tmp_path, parts.sealed(parts.members_make([_restated(runs[0], **changed), runs[1]])))
    assert isinstance(error, BundleInvalidError)
    assert what in str(error)


@pytest.mark.parametrize("field", ["digest", "size_bytes"])
def test_receipt_that_states_another_log_is_refused(tmp_path: Path, runs: list[Run], field: str) -> None:
    stated = json.loads(parts.payload_of(runs[0].receipt))["predicate"]["log"]
    run = _restated(runs[0], log={**stated, field: digest_of(b"other") if field == "digest" else stated["size_bytes"] + 1})
    assert "log.jsonl as the receipt states it" in str(refusal(tmp_path, parts.sealed(parts.members_make([run, runs[1]]))))


def test_receipt_whose_subjects_leave_the_archive_out_is_refused(tmp_path: Path, runs: list[Run]) -> None:
    statement = json.loads(parts.payload_of(runs[0].receipt))
    statement["subject"] = [subject for subject in statement["subject"] if subject["name"] != "archive"]
    receipt = envelope_sign(canonical_json(statement), PAYLOAD_TYPE_STATEMENT, NODES[0])
    run = Run(NODES[0], runs[0].order, runs[0].log, runs[0].archive, receipt)
    assert "subjects" in str(refusal(tmp_path, parts.sealed(parts.members_make([run, runs[1]]))))


# --- how many ------------------------------------------------------------------------------------------------------------


def test_same_node_twice_is_refused(tmp_path: Path, runs: list[Run]) -> None:
    again = parts.run_make(tmp_path, 2, NODES[0])
    assert "same node key" in str(refusal(tmp_path, parts.sealed(parts.members_make([runs[0], again]))))


def test_fewer_replicas_than_the_quorum_are_refused(tmp_path: Path, runs: list[Run]) -> None:
    index = parts.index_make(runs[:1])
    index["job"]["quorum"] = 2
    assert "quorum" in str(refusal(tmp_path, parts.sealed(parts.members_make(runs[:1], index))))


def test_fewer_replicas_than_the_quorum_will_do_under_a_ruling(tmp_path: Path, runs: list[Run]) -> None:
    index = parts.index_make(runs[:1])
    index["job"]["quorum"] = 2
    index["job"]["verdict"]["ruled"] = True
    path = parts.zip_write(tmp_path / "ruled.zip", parts.sealed(parts.members_make(runs[:1], index)))
    assert len(bundle_verify(path, coordinator_key_id=parts.PINNED).replicas) == 1


def test_dropping_a_replica_and_the_quorum_needs_the_coordinators_seal(tmp_path: Path, runs: list[Run], members: Members) -> None:
    index = parts.index_make(runs)
    index["job"]["quorum"] = 1
    index["replicas"] = index["replicas"][:1]
    smaller = {**parts.members_make(runs[:1], index), SEAL_NAME: members[SEAL_NAME]}
    assert "seal" in str(refusal(tmp_path, smaller))


def test_one_replica_is_enough_for_a_quorum_of_one(tmp_path: Path, runs: list[Run]) -> None:
    report = bundle_verify(parts.zip_write(tmp_path / "b.zip", parts.sealed(parts.members_make(runs[:1]))), coordinator_key_id=PINNED)
    assert (len(report.replicas), report.quorum) == (1, 1)


def test_bundle_without_a_canonical_replica_is_refused(tmp_path: Path, runs: list[Run]) -> None:
    index = parts.index_make(runs)
    index["replicas"][0]["canonical"] = False
    rest = {name: data for name, data in parts.members_make(runs, index).items() if name != "replica-1/archive.tar"}
    assert "canonical" in str(refusal(tmp_path, parts.sealed(rest)))


# --- who was paid --------------------------------------------------------------------------------------------------------


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


# --- garbage -------------------------------------------------------------------------------------------------------------


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_index_of_any_shape_raises_nothing_else(tmp_path: Path, members: Members, data: st.DataObject) -> None:
    """One value of the index replaced by any JSON, and sealed: nothing but the documented errors."""

    def change(index: dict[str, Any]) -> None:
        targets = [index, index["job"], index["ledger"], index["replicas"][0], index["replicas"][0]["payment"]]
        target = data.draw(st.sampled_from(targets))
        target[data.draw(st.sampled_from(sorted(target)))] = data.draw(_json)

    with contextlib.suppress(VerificationError):
        bundle_verify(parts.zip_write(tmp_path / "b.zip", parts.index_changed(members, change)), coordinator_key_id=PINNED)


@pytest.mark.parametrize("member", [*SIGNED_MEMBERS, "replica-1/archive.tar", SEAL_NAME])
@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff\xfe", b"[" * 100_000])
def test_member_that_is_something_else_is_refused(tmp_path: Path, members: Members, member: str, content: bytes) -> None:
    changed = {**members, member: content}
    refusal(tmp_path, changed if member == SEAL_NAME else parts.sealed(changed))


@pytest.mark.parametrize("unknown", [{"surplus": 1}, {"bundle_version": 2}, {"replicas": []}])
def test_index_with_unknown_or_impossible_members_is_refused(members: Members, unknown: dict[str, Any]) -> None:
    with pytest.raises(BundleInvalidError):
        index_parse(canonical_json({**json.loads(members[INDEX_NAME]), **unknown}))


def test_envelope_of_another_form_is_malformed(tmp_path: Path, members: Members) -> None:
    assert isinstance(refusal(tmp_path, parts.sealed({**members, "replica-1/order.json": b"{}"})), EnvelopeMalformedError)


# --- others can check it too ----------------------------------------------------------------------------------------------


def test_host_environment_without_django_verifies(tmp_path: Path, members: Members) -> None:
    """In the environment of a host, where there is no Django at all, through the command that a researcher types."""
    path = parts.zip_write(tmp_path / "b.zip", members)
    without = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) for n in ('django', 'rest_framework', 'psycopg')))"
    assert subprocess.run([HOST_PYTHON, "-c", without], check=False).returncode == 0
    command = [str(HOST_PYTHON), "-m", "client", "verify", str(path), "--coordinator", PINNED]
    environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified sum-1" in done.stdout
    parts.zip_write(path, {**members, "replica-1/archive.tar": flipped(members["replica-1/archive.tar"], 700, 1)})
    refused = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert (refused.returncode, "digest_mismatch" in refused.stderr) == (1, True)


def test_verification_imports_no_server_code(tmp_path: Path, members: Members) -> None:
    """Also where Django is installed: importing it, or an app, is made to fail."""
    path = parts.zip_write(tmp_path / "b.zip", members)
    program = (
        "import sys\n"
        "for name in ('django', 'rest_framework', 'channels', 'psycopg', 'redis', 'jobs', 'nodes', 'people', 'ledger', 'nexaportal'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from client.verification import bundle_verify\n"
        "print(bundle_verify(Path(sys.argv[1]), coordinator_key_id=sys.argv[2]).label)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path), PINNED], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "sum-1\n"), done.stderr


@pytest.mark.parametrize("name", ["replica-1/receipt.json", "replica-2/receipt.json", "replica-1/order.json", SEAL_NAME])
def test_envelopes_verify_with_securesystemslib_alone(tmp_path: Path, members: Members, name: str) -> None:
    path = parts.zip_write(tmp_path / "b.zip", members)
    with zipfile.ZipFile(path) as bundle:
        document = json.loads(bundle.read(name))
        index = json.loads(bundle.read(INDEX_NAME))
    is_receipt = name.endswith("receipt.json")
    text = index["replicas"][int(name[8]) - 1]["node_public_key"] if is_receipt else index["coordinator_public_key"]
    key_id = document["signatures"][0]["keyid"]
    public = base64_decode(text).hex()
    key = SSlibKey.from_dict(key_id, {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}})
    envelope = Envelope.from_dict(json.loads(json.dumps(document)))
    assert set(envelope.verify([key], 1)) == {key_id}
    assert envelope.pae() == pae(envelope.payload, document["payloadType"])
    envelope.payload = envelope.payload[:-1] + b" "
    with pytest.raises(OtherVerificationError):
        envelope.verify([key], 1)
