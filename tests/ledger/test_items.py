"""What the log takes in beside entries: once each, and as auditors read it."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace

import pytest
from pytest_django import DjangoAssertNumQueries

from ledger.checkpoints import checkpoint_publish
from ledger.items import ConcludedReceipt, node_key_log, receipts_log, spot_commitment_log, spot_key_log
from ledger.models import LogItem, LogLeaf
from ledger.movements import EntryConflictError
from tests.factories.ledger import account_make
from tests.workers.protocol import vector_story as story
from workers.protocol.digests import digest_of
from workers.protocol.keys import PrivateKey
from workers.protocol.leaves import LEAF_BYTES_MAX, NodeKeyLeaf, ReceiptLeaf, SpotChoice, SpotCommitmentLeaf, SpotKeyLeaf, leaf_parse

pytestmark = pytest.mark.django_db


def receipt_make(**changed: object) -> ConcludedReceipt:
    receipt = ConcludedReceipt(
        job_id=uuid.uuid4(),
        replica_id=uuid.uuid4(),
        digest=digest_of(b"payload"),
        envelope=story.receipt_completed(),
        accepted=True,
        quorum=2,
        spot=None,
    )
    return replace(receipt, **changed)  # type: ignore[arg-type]


def test_receipts_are_leaves_with_the_signed_envelope_whole() -> None:
    spot = SpotChoice(spot_key=uuid.uuid4(), share="0.1", chosen=True)
    receipts = [receipt_make(), receipt_make(accepted=False, quorum=1, spot=spot)]
    receipts_log(receipts)
    checkpoint_publish()
    leaves = [leaf_parse(bytes(leaf.item.data)) for leaf in LogLeaf.objects.order_by("index")]
    for receipt, leaf in zip(receipts, leaves, strict=True):
        assert isinstance(leaf, ReceiptLeaf)
        assert leaf.key == f"receipt:{receipt.replica_id}"
        assert (leaf.job, leaf.replica, leaf.receipt) == (receipt.job_id, receipt.replica_id, receipt.digest)
        assert (leaf.accepted, leaf.quorum, leaf.spot) == (receipt.accepted, receipt.quorum, receipt.spot)
        assert leaf.envelope == json.loads(receipt.envelope)


def test_many_receipts_take_two_statements_and_none_none(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(2):
        receipts_log([receipt_make() for _ in range(50)])
    with django_assert_num_queries(0):
        receipts_log([])


def test_a_receipt_is_logged_once_and_never_otherwise() -> None:
    receipt = receipt_make()
    receipts_log([receipt])
    receipts_log([receipt, receipt, receipt_make()])
    assert LogItem.objects.count() == 2
    with pytest.raises(EntryConflictError, match="another content"):
        receipts_log([replace(receipt, accepted=False)])
    with pytest.raises(EntryConflictError, match="comes twice"):
        receipts_log([new := receipt_make(), replace(new, quorum=1)])


def test_a_receipt_too_long_for_a_leaf_is_refused() -> None:
    envelope = json.dumps({"payload": "A" * (LEAF_BYTES_MAX - 200)}).encode()
    with pytest.raises(ValueError, match="expected a leaf of at most 65535 bytes"):
        receipts_log([receipt_make(envelope=envelope)])
    assert not LogItem.objects.exists()


def test_a_nodes_key_names_the_account_that_its_work_is_paid_to() -> None:
    account, key, node = account_make(), PrivateKey.generate().public, uuid.uuid4()
    node_key_log(node_id=node, key=key, account=account)
    node_key_log(node_id=node, key=key, account=account)
    [item] = LogItem.objects.all()
    leaf = leaf_parse(bytes(item.data))
    assert isinstance(leaf, NodeKeyLeaf)
    assert (leaf.key, leaf.node, leaf.public_key, leaf.account) == (f"node_key:{key.key_id}", node, key.to_base64(), account.pk)
    with pytest.raises(EntryConflictError):
        node_key_log(node_id=node, key=key, account=account_make())


def test_a_spot_key_is_committed_to_before_it_is_told() -> None:
    number, secret = uuid.uuid4(), bytes(range(32))
    spot_commitment_log(spot_key_id=number, secret=secret)
    spot_key_log(spot_key_id=number, secret=secret)
    commitment, told = (leaf_parse(bytes(item.data)) for item in LogItem.objects.order_by("pk"))
    assert isinstance(commitment, SpotCommitmentLeaf)
    assert isinstance(told, SpotKeyLeaf)
    assert commitment.commitment == digest_of(bytes.fromhex(told.secret))
    assert secret.hex() not in bytes(LogItem.objects.order_by("pk")[0].data).decode()
