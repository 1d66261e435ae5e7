"""The sequencer: every entry becomes one leaf, in an order that never changes, under checkpoints that outsiders can check."""

from __future__ import annotations

import json
import threading
from itertools import combinations
from typing import Any

import pytest
from django.db import connection

from ledger import checkpoints
from ledger.checkpoints import checkpoint_latest, checkpoint_publish, log_origin
from ledger.coordinator_key import coordinator_public_key
from ledger.models import Checkpoint, Entry, LogLeaf, PendingItem
from ledger.selectors import checkpoint_at_least, consistency_proof_of
from ledger.tasks import checkpoint_publish_task
from tests.factories.ledger import entries_make
from workers.protocol import signed_note
from workers.protocol.merkle import consistency_verify, leaf_hash, tree_root


def opened(checkpoint: Checkpoint) -> signed_note.Checkpoint:
    text = signed_note.note_open(checkpoint.note.encode(), name=log_origin(), key=coordinator_public_key())
    return signed_note.Checkpoint.from_text(text)


def leaf_hashes() -> list[bytes]:
    return [leaf_hash(bytes(data)) for data in LogLeaf.objects.order_by("index").values_list("item__data", flat=True)]


def log_check() -> None:
    """Every leaf in its place, every checkpoint's note valid, its root that of its leaves, and consistent with every later one."""
    indexes = list(LogLeaf.objects.order_by("index").values_list("index", flat=True))
    assert indexes == list(range(len(indexes)))
    hashes = leaf_hashes()
    published = list(Checkpoint.objects.order_by("size"))
    for checkpoint in published:
        note = opened(checkpoint)
        assert (note.origin, note.size, note.root) == ("testserver/ledger", checkpoint.size, tree_root(hashes[: checkpoint.size]))
        assert bytes(checkpoint.root) == note.root
    for old, new in combinations(published, 2):
        proof = consistency_proof_of(old=old.size, new=new.size)
        consistency_verify(old.size, new.size, proof, bytes(old.root), bytes(new.root))


@pytest.mark.django_db
def test_empty_log_has_no_checkpoint() -> None:
    assert checkpoint_publish() is None
    assert checkpoint_latest() is None
    assert checkpoint_at_least(size=1) is None


@pytest.mark.django_db
def test_each_publication_takes_in_what_came_and_nothing_twice() -> None:
    for count in (1, 2, 5, 8):
        entries_make(count)
        before = LogLeaf.objects.count()
        waiting = PendingItem.objects.count()
        published = checkpoint_publish()
        assert published is not None
        assert published.size == before + waiting
        assert checkpoint_publish() == published
    assert not PendingItem.objects.exists()
    assert LogLeaf.objects.count() == Entry.objects.count()
    log_check()


@pytest.mark.django_db
def test_more_than_a_batch_is_published_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "BATCH_ITEMS", 4)
    entries_make(11)
    checkpoint_publish_task()
    assert list(Checkpoint.objects.order_by("size").values_list("size", flat=True)) == [4, 8, 11]
    at_least = checkpoint_at_least(size=5)
    assert at_least is not None
    assert at_least.size == 8
    log_check()


@pytest.mark.django_db
def test_leaf_holds_the_entry_as_canonical_json_without_names() -> None:
    (entry,) = entries_make(1)
    checkpoint_publish()
    data = bytes(LogLeaf.objects.get(item__entry=entry).item.data)
    document = json.loads(data)
    assert data == json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    assert document == {
        "entry": str(entry.pk),
        "kind": "grant",
        "key": entry.idempotency_key,
        "at": entry.created_at.isoformat(),
        "evidence": {"reason": "test"},
        "postings": [{"account": str(p.account_id), "amount_micro": str(p.amount_micro)} for p in entry.postings.order_by("account_id")],
    }


def test_two_sequencers_at_once_make_one_log(own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "BATCH_ITEMS", 3)
    entries_make(40)
    failures: list[BaseException] = []
    start = threading.Barrier(4)

    def run(work: Any) -> None:
        try:
            start.wait(timeout=30)
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            connection.close()

    def publish() -> None:
        for _ in range(3):
            checkpoint_publish()

    threads = [threading.Thread(target=run, args=(work,)) for work in (publish, publish, publish, lambda: entries_make(10))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    checkpoint_publish()
    assert LogLeaf.objects.count() == Entry.objects.count() == 50
    log_check()
