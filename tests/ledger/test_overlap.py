"""While the coordinator's keys overlap, whoever knows either can read the checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from ledger.checkpoints import checkpoint_publish, log_origin
from ledger.coordinator_key import CoordinatorKeyMissingError, coordinator_previous_key, coordinator_private_key, coordinator_public_key
from ledger.models import Checkpoint
from ledger.publication import published_note
from ledger.verification import LedgerVerification
from tests.factories.ledger import entries_make
from workers.protocol import signed_note
from workers.protocol.errors import KeyWrongError
from workers.protocol.keys import PublicKey


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Keys are read once a process; a test that changes them is a process of its own in that respect."""
    _keys_forget()
    yield
    _keys_forget()


def _keys_forget() -> None:
    for one in (coordinator_private_key, coordinator_public_key, coordinator_previous_key):
        one.cache_clear()


def readable(checkpoint: Checkpoint, key: PublicKey) -> bool:
    try:
        text = signed_note.note_open(checkpoint.note.encode(), name=log_origin(), key=key)
    except KeyWrongError:
        return False
    return signed_note.Checkpoint.from_text(text).size == checkpoint.size


def published() -> Checkpoint:
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    assert published_note(epoch=1) == checkpoint.note
    return checkpoint


def test_before_during_and_after_an_overlap(own_database: str, settings: Settings, tmp_path: Path) -> None:
    old_file, new_file = settings.NEXA_COORDINATOR_KEY_FILE, tmp_path / "new.key"
    old = coordinator_public_key()
    entries_make(2)
    before = published()
    call_command("coordinator_key_succeed", str(new_file))
    assert published() == before  # the statement changes nothing yet

    settings.NEXA_COORDINATOR_KEY_FILE, settings.NEXA_COORDINATOR_PREVIOUS_KEY_FILE = new_file, old_file
    _keys_forget()
    new = coordinator_public_key()
    assert new != old
    overlapping = published()  # the same leaves are signed again, so that no reader waits for the next entry
    assert (overlapping.size, bytes(overlapping.root)) == (before.size, bytes(before.root))
    assert [readable(overlapping, key) for key in (old, new)] == [True, True]
    assert overlapping.note.splitlines()[4:] != before.note.splitlines()[4:]
    assert published() == overlapping
    entries_make(1)
    assert [readable(published(), key) for key in (old, new)] == [True, True]

    settings.NEXA_COORDINATOR_PREVIOUS_KEY_FILE = ""
    _keys_forget()
    entries_make(1)
    after = published()
    assert [readable(after, key) for key in (old, new)] == [False, True]
    assert list(LedgerVerification().faults()) == []  # notes by either key, as the chain of successions says


@pytest.mark.django_db
def test_a_previous_key_that_cannot_be_read_stops_the_log(settings: Settings, tmp_path: Path) -> None:
    settings.NEXA_COORDINATOR_PREVIOUS_KEY_FILE = tmp_path / "nowhere"
    _keys_forget()
    entries_make(1)
    with pytest.raises(CoordinatorKeyMissingError, match="nowhere"):
        checkpoint_publish()
    assert not Checkpoint.objects.exists()
