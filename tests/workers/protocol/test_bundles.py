"""The form of a bundle: its index and its seal. Whole bundles are in tests/client and tests/jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.protocol.bundles import (
    BundledReplica,
    BundleInvalidError,
    index_parse,
    part_parse,
    seal_open,
    seal_sign,
)
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.errors import KeyWrongError, StatementTypeWrongError, VerificationError
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE
from workers.protocol.statements import Subject, statement_build

KEY = PrivateKey.from_raw(bytes(range(32)))
JOB_ID = UUID(int=7)
DIGESTS = {"bundle.json": digest_of(b"index"), "replica-1/log.jsonl": digest_of(b"log")}
VECTOR: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "bundle.json").read_text())["index"]


def test_golden_index_is_read_and_written_as_it_is() -> None:
    """`bundle.json` of the vectors: what another implementation would read."""
    index = index_parse(json.dumps(VECTOR).encode())
    assert (index.job.label, index.replicas[0].folder) == (VECTOR["job"]["label"], "replica-1")
    again = json.loads(canonical_json(index.model_dump(mode="json")))
    assert again["replicas"] == VECTOR["replicas"]
    assert again["ledger"] == VECTOR["ledger"]
    assert again["job"]["descriptor"] == VECTOR["job"]["descriptor"]


def test_members_of_a_replica_hold_the_archive_of_the_canonical_one_only() -> None:
    replica = index_parse(json.dumps(VECTOR).encode()).replicas[0]
    names = ("replica-1/order.json", "replica-1/receipt.json", "replica-1/log.jsonl")
    assert replica.member_names == (*names, "replica-1/archive.tar")
    assert replica.model_copy(update={"canonical": False}).member_names == names


@pytest.mark.parametrize(
    "folder", ["replica-0", "replica-01", "../replica-1", "replica-1/", "replica-1\n", "replica-1000", "Replica-1", ""]
)
def test_folder_of_another_form_is_refused(folder: str) -> None:
    with pytest.raises(BundleInvalidError, match="folder"):
        part_parse(BundledReplica, {**VECTOR["replicas"][0], "folder": folder})


def test_seal_names_what_was_sealed() -> None:
    assert seal_open(seal_sign(digests=DIGESTS, job_id=JOB_ID, key=KEY), key=KEY.public) == DIGESTS


def test_same_members_get_the_same_seal_in_any_order() -> None:
    backwards = dict(reversed(DIGESTS.items()))
    assert seal_sign(digests=DIGESTS, job_id=JOB_ID, key=KEY) == seal_sign(digests=backwards, job_id=JOB_ID, key=KEY)


def test_seal_of_another_key_is_refused() -> None:
    with pytest.raises(KeyWrongError):
        seal_open(seal_sign(digests=DIGESTS, job_id=JOB_ID, key=PrivateKey.generate()), key=KEY.public)


def test_statement_about_something_else_is_no_seal() -> None:
    """A key that also signs receipts could otherwise be led to seal a bundle by one."""
    receipt = statement_build([Subject.of("log", digest_of(b""))], RECEIPT_PREDICATE_TYPE, {})
    with pytest.raises(StatementTypeWrongError):
        seal_open(envelope_sign(receipt, PAYLOAD_TYPE_STATEMENT, KEY), key=KEY.public)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_no_index_and_no_seal(data: bytes) -> None:
    with pytest.raises(VerificationError):
        index_parse(data)
    with pytest.raises(VerificationError):
        seal_open(data, key=KEY.public)


def test_fault_is_named_without_the_value() -> None:
    with pytest.raises(BundleInvalidError, match="job/quorum") as caught:
        index_parse(json.dumps({**VECTOR, "job": {**VECTOR["job"], "quorum": "secret"}}).encode())
    assert "secret" not in str(caught.value)
