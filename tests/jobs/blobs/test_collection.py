"""What the collection removes, what it leaves, and what it finds."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from jobs.blobs import BlobGoneError, blob_open, blob_store
from jobs.blobs.collection import SHARD_SECONDS, SHARDS, shard_due
from jobs.models import Blob, Upload
from tests.factories.jobs import upload_make
from tests.factories.people import user_make
from tests.jobs.blobs.scene import LARGE, SMALL, aged, collect, file_of, marked, read, written

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _own_store(settings: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """A store with nothing of other tests in it."""
    settings.STORAGES = {  # type: ignore[attr-defined]  # pytest-django's settings
        **settings.STORAGES,  # type: ignore[attr-defined]
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path}},
    }
    settings.NEXA_BLOB_ROOT = tmp_path  # type: ignore[attr-defined]
    blob_store.cache_clear()
    yield
    blob_store.cache_clear()


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["in its row", "a file"])
def test_what_nothing_refers_to_is_marked_and_removed_after_the_grace(data: bytes) -> None:
    blob = written(data)
    now = timezone.now()

    first, early, late = (collect(now=now + timedelta(hours=hours)) for hours in (0, 23, 25))

    assert [(one.looked_at, one.marked, one.removed) for one in (first, early, late)] == [(1, 1, 0), (1, 0, 0), (1, 0, 1)]
    assert late.removed_bytes == len(data)
    assert not Blob.objects.exists()
    assert not file_of(blob.digest).exists()
    assert collect(now=now + timedelta(hours=26)).looked_at == 0


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["in its row", "a file"])
def test_who_keeps_the_same_bytes_again_takes_the_mark_off(data: bytes) -> None:
    digest = marked(data)
    written(data)
    assert Blob.objects.get().unwanted_since is None
    assert collect().removed == 0
    assert read(data) == data
    assert Blob.objects.get().unwanted_since is not None, f"nothing refers to {digest}, so it is marked anew"


def test_what_is_wanted_again_loses_its_mark() -> None:
    digest = marked(SMALL)
    upload = {"size_bytes": len(SMALL), "offset_bytes": len(SMALL), "committed_at": timezone.now()}
    Upload.objects.create(user=user_make(), digest=digest, **upload)
    assert collect().removed == 0
    assert Blob.objects.get().unwanted_since is None


def test_an_upload_holds_its_bytes_and_lets_them_go_with_its_row() -> None:
    upload_make(user_make(), LARGE)
    now = timezone.now()
    assert collect(now=now + timedelta(days=400)).marked == 0
    Upload.objects.all().delete()
    assert collect(now=now).marked == 1
    assert collect(now=now + timedelta(hours=25)).removed == 1


def test_a_dry_run_only_counts() -> None:
    digest = marked(LARGE)
    written(SMALL)
    found = collect(dry_run=True)
    assert (found.looked_at, found.marked, found.removed, found.removed_bytes) == (2, 1, 1, len(LARGE))
    assert read(LARGE) == LARGE
    assert set(Blob.objects.filter(unwanted_since=None).values_list("data", flat=True)) == {SMALL}
    assert file_of(digest).exists()


def test_a_row_whose_file_went_in_a_run_that_was_killed_is_removed_by_the_next() -> None:
    file_of(marked(LARGE)).unlink()
    assert collect().removed == 1
    assert not Blob.objects.exists()


def test_a_row_whose_file_went_in_a_run_that_was_killed_is_made_good_by_who_brings_the_bytes() -> None:
    file_of(marked(LARGE)).unlink()
    upload_make(user_make(), LARGE)
    assert read(LARGE) == LARGE
    assert collect().lost == []


def test_a_file_without_a_row_is_removed_when_it_is_as_old_as_the_grace() -> None:
    digest = written(LARGE).digest
    Blob.objects.all()._raw_delete("default")
    assert collect().files_removed == 0
    aged(file_of(digest), days=2)
    assert collect(dry_run=True).files_removed == 1
    assert file_of(digest).exists()
    assert (collect().files_removed, collect().files_removed) == (1, 0)
    assert not file_of(digest).exists()


def test_a_file_beside_a_row_that_holds_the_bytes_is_removed(settings: pytest.FixtureRequest) -> None:
    upload_make(user_make(), SMALL)
    settings.NEXA_BLOB_INLINE_BYTES = 2  # type: ignore[attr-defined]  # pytest-django's settings
    aged(file_of(written(SMALL).digest), days=2)
    assert collect().files_removed == 1
    assert read(SMALL) == SMALL


def test_names_that_are_no_digests_stay(tmp_path: Path) -> None:
    folder = tmp_path / "sha256" / "ab"
    folder.mkdir(parents=True)
    for name in ("ab", "README", "cd" + "0" * 62):
        (folder / name).write_bytes(b"")
        aged(folder / name, days=9)
    assert collect().files_removed == 0
    assert len(list(folder.iterdir())) == 3


def test_a_wanted_blob_without_its_file_is_named_and_left(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    blob = upload_make(user_make(), LARGE)
    file_of(blob.digest).unlink()
    with pytest.raises(CommandError, match="from a backup"):
        call_command("blobs_collect")
    assert f"lost: {blob.digest}" in capsys.readouterr().out
    assert blob.digest in caplog.text
    assert Blob.objects.filter(pk=blob.digest, unwanted_since=None).exists()


def test_the_command_says_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    marked(LARGE)
    written(SMALL)
    call_command("blobs_collect", "--dry-run")
    assert f"Would remove 1 blob of {len(LARGE)} bytes, and 0 files without a row." in capsys.readouterr().out
    call_command("blobs_collect")
    out = capsys.readouterr().out
    assert "Looked at 2 blobs. New ones that nothing wants: 1." in out
    assert f"Removed 1 blob of {len(LARGE)} bytes" in out


def test_more_blobs_than_a_page_are_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.blobs.collection.PAGE_BLOBS", 2)
    for number in range(600):
        written(b"%d" % number)
    found = collect()
    assert (found.looked_at, found.marked) == (600, 600)


def test_every_shard_has_its_turn_within_a_day() -> None:
    begin = datetime(2026, 11, 27, tzinfo=UTC)
    turns = [shard_due(now=begin + timedelta(seconds=number * SHARD_SECONDS)) for number in range(len(SHARDS))]
    assert sorted(turns) == sorted(SHARDS)
    assert len(SHARDS) * SHARD_SECONDS < 86400


def test_bytes_that_were_removed_come_back_with_whoever_brings_them() -> None:
    for data in (SMALL, LARGE):
        digest = marked(data)
        Blob.objects.filter(pk=digest).update(removed_at=timezone.now(), data=None)
        file_of(digest).unlink(missing_ok=True)
        with pytest.raises(BlobGoneError, match="were kept until") as raised:
            blob_open(digest)
        assert (raised.value.status, raised.value.code) == (410, "blob_gone")
        written(data)
        assert read(data) == data
        assert Blob.objects.get(pk=digest).removed_at is None


def test_an_unknown_digest_has_no_bytes() -> None:
    with pytest.raises(FileNotFoundError):
        blob_open("sha256:" + "0" * 64)


def test_a_stream_that_is_too_long_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="the stream holds more"):
        blob_store().write(io.BytesIO(LARGE), limit_bytes=10)
    assert list((tmp_path / "staging").iterdir()) == []
