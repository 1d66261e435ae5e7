"""The offline verifier, on right bytes that lie: who signed what, of which run, and how many agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from client.verification import CoordinatorWrongError, bundle_verify
from tests.client import bundle_parts as parts
from tests.client.bundle_parts import COORDINATOR, NODES, PINNED, STRANGER, Members, Run, refusal
from workers.protocol.archives import ArchiveRefusedError
from workers.protocol.bundles import INDEX_NAME, SEAL_NAME, BundleInvalidError
from workers.protocol.canonical import canonical_json
from workers.protocol.compute_log import LogRefusedError
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.errors import (
    EnvelopeTypeWrongError,
    KeyWrongError,
    StatementTypeWrongError,
)

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
        ({"archive": {"digest": digest_of(b"other"), "size_bytes": 10**6}}, "archive.tar as the receipt states it"),
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


def test_archive_with_more_bytes_of_files_than_its_receipt_states_is_refused(tmp_path: Path, runs: list[Run]) -> None:
    restated = _restated(runs[0], archive={"digest": digest_of(runs[0].archive), "size_bytes": 5})
    error = refusal(tmp_path, parts.sealed(parts.members_make([restated, runs[1]])))
    assert isinstance(error, ArchiveRefusedError)
    assert "at most 5 bytes" in str(error)


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
