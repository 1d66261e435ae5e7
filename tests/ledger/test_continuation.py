"""What the sequencer signs continues what the coordinator signed, whatever somebody has written into the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as present
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from ledger.checkpoints import CheckpointUnprovenError, checkpoint_latest, checkpoint_publish
from ledger.coordinator_key import coordinator_previous_key, coordinator_private_key, coordinator_public_key
from ledger.models import Checkpoint, LogLeaf
from ledger.publication import PublishedAheadError
from ledger.tasks import checkpoint_publish_task
from tests.factories.ledger import entries_make
from workers.protocol import signed_note
from workers.protocol.keys import PrivateKey
from workers.protocol.merkle import CompactRange, leaf_hash
from workers.protocol.strict_base64 import base64_encode

STRANGER = PrivateKey.from_raw(b"\x77" * 32)
ORIGIN = "testserver/ledger"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    _keys_forget()
    yield
    _keys_forget()


def _keys_forget() -> None:
    for one in (coordinator_private_key, coordinator_public_key, coordinator_previous_key):
        one.cache_clear()


def published(count: int) -> Checkpoint:
    entries_make(count)
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    return checkpoint


def execute(*statements: tuple[str, list[Any]]) -> None:
    """As the database's superuser, with all triggers off."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for statement, arguments in statements:
            cursor.execute(statement, arguments)
        cursor.execute("SET session_replication_role = origin")


def tree_with_another_first_leaf() -> CompactRange:
    hashes = [bytes(one) for one in LogLeaf.objects.order_by("index").values_list("hash", flat=True)]
    tree = CompactRange()
    tree.extend([leaf_hash(b"another"), *hashes[1:]])
    return tree


def range_forged(checkpoint: Checkpoint) -> None:
    tree = tree_with_another_first_leaf()
    execute(("UPDATE ledger_checkpoint SET compact_range = %s::jsonb", [f'["{tree.hashes[0].hex()}", "{tree.hashes[1].hex()}"]']))


def whole_row_forged(checkpoint: Checkpoint) -> None:
    """Also published: whoever is the superuser of a machine's database may find its files as well."""
    range_forged(checkpoint)
    root = tree_with_another_first_leaf().root()
    note = signed_note.note_sign(signed_note.Checkpoint(ORIGIN, checkpoint.size, root).to_text(), ORIGIN, STRANGER).decode()
    execute(("UPDATE ledger_checkpoint SET root = %s, note = %s", [root, note]))
    (Path(present.NEXA_LOG_ROOT) / "epoch-1" / "checkpoint").unlink()


def note_emptied(checkpoint: Checkpoint) -> None:
    execute(("UPDATE ledger_checkpoint SET note = ''", []))


def range_of_numbers(checkpoint: Checkpoint) -> None:
    execute(("UPDATE ledger_checkpoint SET compact_range = '[1, 2]'", []))


def range_of_another_size(checkpoint: Checkpoint) -> None:
    execute(("UPDATE ledger_checkpoint SET compact_range = '[]'", []))


@pytest.mark.parametrize("forge", [range_forged, whole_row_forged, note_emptied, range_of_numbers, range_of_another_size])
def test_a_forged_checkpoint_in_the_database_is_not_continued(
    own_database: str, forge: Callable[[Checkpoint], None], caplog: pytest.LogCaptureFixture
) -> None:
    forge(published(3))
    entries_make(1)
    with pytest.raises(CheckpointUnprovenError) as caught:
        checkpoint_publish()
    assert caught.value.code == "ledger_checkpoint_unproven"
    assert Checkpoint.objects.count() == 1
    checkpoint_publish_task()
    assert "ledger_checkpoint_unproven" in caplog.text


def test_an_old_checkpoint_put_back_as_the_newest_is_not_continued(own_database: str) -> None:
    old = published(2)
    published(2)
    columns = "epoch, size, root, compact_range, note, created_at"
    execute(
        (f"INSERT INTO ledger_checkpoint ({columns}) SELECT {columns} FROM ledger_checkpoint WHERE id = %s", [old.pk]),  # noqa: S608
        ("DELETE FROM ledger_logleaf WHERE index >= 2", []),
    )
    entries_make(1)
    with pytest.raises(PublishedAheadError, match="covers 2"):
        checkpoint_publish()


def test_under_another_key_the_published_checkpoint_is_continued(own_database: str, settings: Settings, tmp_path: Path) -> None:
    before = published(2)
    key_replace(settings, tmp_path)
    after = published(1)
    assert (before.size, after.size) == (2, 3)


def test_under_another_key_and_without_files_an_operator_begins_an_epoch(own_database: str, settings: Settings, tmp_path: Path) -> None:
    published(2)
    (Path(present.NEXA_LOG_ROOT) / "epoch-1" / "checkpoint").unlink()
    key_replace(settings, tmp_path)
    with pytest.raises(CheckpointUnprovenError, match="ledger_epoch_begin"):
        published(1)
    call_command("ledger_epoch_begin", "--reason", "key and disk are lost")
    latest = checkpoint_latest()
    assert latest is not None
    assert (latest.epoch, latest.size) == (2, 3)


def test_an_epoch_is_no_way_around_a_range_that_is_not_the_roots(own_database: str) -> None:
    range_forged(published(3))
    with pytest.raises(CommandError, match="ledger_verify"):
        call_command("ledger_epoch_begin", "--reason", "none")
    assert Checkpoint.objects.count() == 1


def key_replace(settings: Settings, folder: Path) -> None:
    """Another key, and nothing of the one before."""
    path = folder / "another.key"
    path.write_text(base64_encode(PrivateKey.generate().raw))
    settings.NEXA_COORDINATOR_KEY_FILE = path
    _keys_forget()
