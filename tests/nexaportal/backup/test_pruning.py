"""The newest whole backups stay, with every blob that they need; what goes are whole backups of this portal, and blobs that none needs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from jobs.models import Blob
from ledger import coordinator_key
from nexaportal.backup.errors import BackupPlaceError
from nexaportal.backup.manifest import manifest_read, manifest_sign
from nexaportal.backup.pruning import backups_prune
from nexaportal.backup.restoring import backup_check
from tests.nexaportal.backup.places import job_paid, make
from workers.protocol.keys import PrivateKey


def three(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Backups, the oldest first: of one result, of two, of the second alone."""
    job_paid()
    (first_blob,) = Blob.objects.filter(data=None)
    first = make(tmp_path, seconds=-60)
    job_paid({"result.bin": b"another" * 20_000})
    second = make(tmp_path, seconds=-40)
    Blob.objects.filter(pk=first_blob.pk).update(unwanted_since=timezone.now(), removed_at=timezone.now())
    return first, second, make(tmp_path, seconds=-20)


def prune(made: Path, keep: int) -> str:
    said: list[str] = []
    backups_prune(made=made, keep=keep, report=said.append)
    return "\n".join(said)


def blobs(tmp_path: Path) -> int:
    return len([path for path in (tmp_path / "backups/blobs").rglob("*") if path.is_file()])


def test_the_newest_stay_whole_and_blobs_go_with_the_last_backup_that_has_them(tmp_path: Path) -> None:
    first, second, third = three(tmp_path)
    assert prune(third, 2) == f"Removed the backup {first.name}."
    assert (first.exists(), backup_check(folder=second).blobs, backup_check(folder=third).blobs) == (False, 2, 1)
    assert blobs(tmp_path) == 2
    assert prune(third, 1) == f"Removed the backup {second.name}.\nRemoved 1 blob that no backup has any more."
    assert (second.exists(), backup_check(folder=third).blobs, blobs(tmp_path)) == (False, 1, 1)
    assert prune(third, 1) == ""


def test_more_may_be_kept_than_there_are(tmp_path: Path) -> None:
    first, _, third = three(tmp_path)
    assert prune(third, 7) == ""
    assert backup_check(folder=first).blobs == 1


def test_the_one_just_made_stays_where_a_clock_was_ahead(tmp_path: Path) -> None:
    first, second, third = three(tmp_path)
    prune(first, 2)
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)


def _without_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _signed_by_another(folder: Path) -> None:
    manifest = manifest_read(folder, key=coordinator_key.coordinator_public_key())
    (folder / "manifest.json").write_bytes(manifest_sign(manifest, key=PrivateKey.generate()))


def _of_another_portal(folder: Path) -> None:
    manifest = manifest_read(folder, key=coordinator_key.coordinator_public_key())
    changed = manifest.model_copy(update={"origin": "https://elsewhere.example"})
    (folder / "manifest.json").write_bytes(manifest_sign(changed, key=coordinator_key.coordinator_private_key()))


def _dump_cut(folder: Path) -> None:
    (folder / "database.dump").write_bytes(b"")


def _keys_gone(folder: Path) -> None:
    shutil.rmtree(folder / "keys")


def _blob_cut(folder: Path) -> None:
    """The blob that only the two older ones have."""
    newest = {line.partition(" ")[0] for line in (max(folder.parent.glob("2*")) / "blobs.txt").read_text().splitlines()}
    (digest,) = {line.partition(" ")[0] for line in (folder / "blobs.txt").read_text().splitlines()} - newest
    (folder.parent / "blobs" / digest[7:9] / digest[7:]).write_bytes(b"")


@pytest.mark.parametrize(
    "damage", [_without_manifest, _signed_by_another, _of_another_portal, _dump_cut, _keys_gone], ids=lambda damage: damage.__name__
)
def test_what_is_no_whole_backup_of_this_portal_counts_for_nothing_and_stays(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    first, second, third = three(tmp_path)
    damage(second)
    said = prune(third, 2)
    assert said.startswith(f"Left as it is, and not counted: {second}: ")
    assert "Removed" not in said
    assert (second.exists(), backup_check(folder=first).blobs, blobs(tmp_path)) == (True, 1, 2)
    assert f"Removed the backup {first.name}." in prune(third, 1)
    assert blobs(tmp_path) == 2, "the damaged one names both"


def test_backups_whose_blob_is_damaged_are_left_to_a_person(tmp_path: Path) -> None:
    first, second, third = three(tmp_path)
    _blob_cut(second)
    said = prune(third, 1)
    assert said.count("Left as it is, and not counted") == 2
    assert (first.exists(), second.exists(), blobs(tmp_path)) == (True, True, 2)


def test_while_a_list_of_blobs_is_missing_none_is_removed(tmp_path: Path) -> None:
    first, second, third = three(tmp_path)
    (second / "blobs.txt").unlink()
    with pytest.raises(BackupPlaceError, match=r"No blob is removed, so the disk fills: expected a list of blobs in .* Move"):
        prune(third, 1)
    assert not first.exists()
    assert blobs(tmp_path) == 2


def test_what_a_file_system_has_at_the_root_of_a_disk_is_in_nobodys_way(tmp_path: Path) -> None:
    _, _, third = three(tmp_path)
    (tmp_path / "backups" / "lost+found").mkdir(mode=0o700)
    prune(third, 1)
    assert blobs(tmp_path) == 1


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    first, _, third = three(tmp_path)
    first.rename(first.with_name(f".removing-{first.name}"))
    prune(third, 2)
    assert sorted(path.name for path in (tmp_path / "backups").iterdir() if path.name.startswith(".")) == []


def test_old_backups_go_also_while_the_store_has_lost_a_blob(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, _ = three(tmp_path)
    (lost,) = Blob.objects.filter(data=None, removed_at=None).values_list("pk", flat=True)
    shutil.rmtree(tmp_path / "blobs")
    (tmp_path / "backups" / "blobs" / lost[7:9] / lost[7:]).unlink()
    with pytest.raises(CommandError, match=f"backup_blobs_lost: The backup .* is whole but for {lost}"):
        call_command("backup_make", str(tmp_path / "backups"), "--keep", "1")
    said = capsys.readouterr().out
    assert "Backup: " in said
    assert said.count("Left as it is, and not counted") == 2, "those whose blob is gone are a person's to judge"
    assert (first.exists(), second.exists()) == (False, True)


def test_the_command_keeps_as_many_as_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, third = three(tmp_path)
    call_command("backup_make", str(tmp_path / "backups"), "--keep", "2")
    said = capsys.readouterr().out
    assert (first.exists(), second.exists(), third.exists()) == (False, False, True)
    assert f"Removed the backup {second.name}." in said
    for wrong in ("0", "-1", "two"):
        with pytest.raises(CommandError, match="at least 1"):
            call_command("backup_make", str(tmp_path / "backups"), f"--keep={wrong}")


def test_without_being_told_it_removes_nothing(tmp_path: Path, capsys: Any) -> None:
    first, _, _ = three(tmp_path)
    call_command("backup_make", str(tmp_path / "backups"))
    assert first.exists()
