"""The log as files: complete, laid out as tlog-tiles, whole after any kill, and never ahead of the database unnoticed."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from ledger import checkpoints, publication
from ledger.checkpoints import checkpoint_latest, checkpoint_publish
from ledger.models import Checkpoint, LogLeaf
from ledger.publication import PublishedAheadError, PublishedUnreadableError, published_checkpoint, published_epoch
from ledger.tasks import checkpoint_publish_task
from tests.factories.ledger import entries_make, items_insert
from workers.protocol.merkle import leaf_hash, tree_root

BASE = "/api/v1/ledger"


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


def root() -> Path:
    return Path(settings.NEXA_LOG_ROOT)


def files() -> dict[str, bytes]:
    """What is published of the first epoch, by name; hidden files show too."""
    folder = root() / "epoch-1"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def leaves() -> list[bytes]:
    return [bytes(data) for data in LogLeaf.objects.order_by("index").values_list("item__data", flat=True)]


def publish(count: int) -> Checkpoint:
    entries_make(count)
    checkpoint = checkpoint_publish()
    assert checkpoint is not None
    return checkpoint


@pytest.mark.django_db
def test_an_empty_log_publishes_nothing() -> None:
    assert checkpoint_publish() is None
    assert not root().exists()


@pytest.mark.django_db
def test_full_tiles_bundles_and_the_checkpoint_are_files_and_partial_ones_are_not() -> None:
    checkpoint = publish(600)
    data = leaves()
    hashes = [leaf_hash(one) for one in data]
    found = files()
    assert set(found) == {"checkpoint", "tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"}
    assert found["checkpoint"].decode() == checkpoint.note
    assert found["tile/0/001"] == b"".join(hashes[256:512])
    assert found["tile/entries/000"] == b"".join(len(one).to_bytes(2, "big") + one for one in data[:256])
    assert (root() / "current" / "checkpoint").read_text() == checkpoint.note


@pytest.mark.django_db
def test_a_tile_of_the_next_level_appears_when_256_of_the_one_below_are_full(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    items_insert(65_535)
    checkpoint_publish()
    before = files()
    assert "tile/1/000" not in before
    items_insert(2)
    with django_assert_max_num_queries(25):  # the roots of the 255 tiles below that are full already were kept when these were written
        checkpoint = checkpoint_publish()
    assert checkpoint is not None
    found = files()
    hashes = [leaf_hash(one) for one in leaves()]
    assert found["tile/1/000"] == b"".join(tree_root(hashes[start : start + 256]) for start in range(0, 65_536, 256))
    assert bytes(checkpoint.root) == tree_root(hashes)
    assert set(found) - set(before) == {"tile/0/255", "tile/entries/255", "tile/1/000"}
    assert {name for name in before if found[name] != before[name]} == {"checkpoint"}


class Killed(BaseException):
    """As a signal would end the process."""


@pytest.mark.parametrize("files_written", [0, 1, 3, 4])
def test_killed_between_commit_and_files_the_next_run_writes_the_rest(
    own_database: str, monkeypatch: pytest.MonkeyPatch, files_written: int
) -> None:
    first = publish(3)
    entries_make(600)
    written = 0
    replace = Path.replace

    def kill(path: Path, target: Any) -> Any:
        nonlocal written
        if written == files_written:
            raise Killed
        written += 1
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", kill)
        with pytest.raises(Killed):
            checkpoint_publish()
    connection.close()  # with the process its connection ends, and so its lock
    latest = checkpoint_latest()
    assert latest is not None
    assert latest.size == 603  # the commit was before
    assert files()["checkpoint"].decode() == first.note  # readers see nothing that is not there yet
    assert checkpoint_publish() == latest
    found = files()
    assert found["checkpoint"].decode() == latest.note
    hashes = [leaf_hash(one) for one in leaves()]
    assert [found["tile/0/000"], found["tile/0/001"]] == [b"".join(hashes[:256]), b"".join(hashes[256:512])]
    assert not [name for name in found if name.endswith(".tmp")]


@pytest.mark.django_db
def test_without_its_checkpoint_everything_is_written_anew() -> None:
    publish(300)
    before = files()
    (root() / "epoch-1" / "checkpoint").unlink()
    (root() / "epoch-1" / "tile/0/000").write_bytes(b"rotten")
    checkpoint_publish()
    assert files() == before


@pytest.mark.django_db
def test_a_checkpoint_that_was_published_already_is_not_written_again() -> None:
    publish(3)
    path = root() / "epoch-1" / "checkpoint"
    before = path.stat().st_ino
    checkpoint_publish()
    assert path.stat().st_ino == before


def _larger(checkpoint: Checkpoint) -> str:
    return checkpoint.note.replace("\n3\n", "\n4\n", 1)


def _other_root(checkpoint: Checkpoint) -> str:
    lines = checkpoint.note.split("\n")
    return "\n".join([*lines[:2], "A" * 43 + "=", *lines[3:]])


@pytest.mark.django_db
@pytest.mark.parametrize("change", [_larger, _other_root])
def test_published_ahead_of_the_database_nothing_enters_the_log_and_nothing_is_published(
    change: Callable[[Checkpoint], str], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = publish(3)
    path = root() / "epoch-1" / "checkpoint"
    path.write_text(change(checkpoint))
    entries_make(1)
    with pytest.raises(PublishedAheadError, match="ledger_epoch_begin") as caught:
        checkpoint_publish()
    assert caught.value.code == "ledger_published_ahead"
    with caplog.at_level(logging.ERROR):
        checkpoint_publish_task()
    assert "ledger_epoch_begin" in caplog.text
    assert path.read_text() == change(checkpoint)
    assert LogLeaf.objects.count() == 3


@pytest.mark.django_db
def test_a_published_epoch_that_the_database_does_not_know_is_ahead() -> None:
    publish(3)
    folder = root() / "epoch-3"
    folder.mkdir()
    (folder / "checkpoint").write_text("whatever")
    (root() / "epoch-x").mkdir()
    (root() / "epoch-x" / "checkpoint").write_text("nobody's")
    assert published_epoch() == 3
    with pytest.raises(PublishedAheadError, match="epoch 3 was published; the database knows 1"):
        checkpoint_publish()


@pytest.mark.django_db
@pytest.mark.parametrize("content", [b"", b"rotten", b"\xff\xfe", b"a\nb\nc\n\n\xe2\x80\x94 x y\n"])
def test_a_published_checkpoint_that_is_none_is_named_and_kept(content: bytes) -> None:
    publish(3)
    path = root() / "epoch-1" / "checkpoint"
    path.write_bytes(content)
    with pytest.raises(PublishedUnreadableError, match="Expected a checkpoint in") as caught:
        checkpoint_publish()
    assert caught.value.code == "ledger_published_unreadable"
    assert path.read_bytes() == content


@pytest.mark.django_db
def test_a_full_disk_leaves_what_was_published_and_the_next_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    first = publish(3)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    entries_make(1)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint_publish()
    assert files()["checkpoint"].decode() == first.note
    latest = checkpoint_publish()
    assert published_checkpoint(epoch=1) is not None
    assert latest is not None
    assert files()["checkpoint"].decode() == latest.note


class TestServing:
    @pytest.fixture(autouse=True)
    def _published(self, db: None) -> None:
        publish(300)

    def test_files_are_served_as_they_are_for_good_and_the_checkpoint_for_seconds(self, client: Client) -> None:
        found = files()
        for name, kept in (("checkpoint", "max-age=2"), ("tile/0/000", "immutable"), ("tile/entries/000", "immutable")):
            response = client.get(f"{BASE}/{name}")
            assert response.content == found[name]
            assert kept in response["Cache-Control"]

    def test_what_is_served_is_the_file(self, client: Client) -> None:
        (root() / "epoch-1" / "tile/0/000").write_bytes(b"from the file")
        assert client.get(f"{BASE}/tile/0/000").content == b"from the file"

    def test_without_files_the_database_answers_the_same(self, client: Client) -> None:
        names = ["checkpoint", "tile/0/000", "tile/entries/000", "tile/0/001.p/44", "tile/entries/001.p/44"]
        before = [client.get(f"{BASE}/{name}").content for name in names]
        settings.NEXA_LOG_ROOT = root() / "nowhere"
        assert [client.get(f"{BASE}/{name}").content for name in names] == before

    @pytest.mark.parametrize("place", ["../checkpoint", "../../checkpoint", "000/../000", "x000/../000", ".p/1"])
    def test_no_other_file_can_be_asked_for(self, client: Client, place: str) -> None:
        assert client.get(f"{BASE}/tile/0/{place}").status_code == 404  # the test's client sends paths as they are


def test_a_sequencer_waits_for_the_disk_even_where_the_session_does_not(own_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    sign = checkpoints._checkpoint_sign

    def spy(*arguments: Any) -> Checkpoint:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            seen.append(cursor.fetchone()[0])
        return sign(*arguments)

    monkeypatch.setattr(checkpoints, "_checkpoint_sign", spy)
    entries_make(1)
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        checkpoint_publish()
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("off",)
    assert seen == ["on"]


def test_a_sequencer_that_comes_late_takes_nothing_back(own_database: str) -> None:
    late = publish(3)
    latest = publish(2)
    publication.publish(late)
    assert files()["checkpoint"].decode() == latest.note


def test_files_have_one_writer_even_without_the_sequencers_lock(own_database: str) -> None:
    first = publish(3)
    root().joinpath("epoch-1", "checkpoint").unlink()
    with (root() / ".lock").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as other:
            done = other.submit(publication.publish, first)
            with pytest.raises(TimeoutError):
                done.result(timeout=0.3)
            assert "checkpoint" not in files()
            fcntl.flock(held, fcntl.LOCK_UN)
            done.result(timeout=30)
    assert files()["checkpoint"].decode() == first.note
