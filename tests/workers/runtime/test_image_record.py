"""The record of pulled images: what it says outlives the process; what it can't say removes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.runtime.image_record import ImageRecord

ID = "sha256:" + "1a" * 32


def test_images_are_listed_by_last_use_also_by_the_next_process(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "images.json"
    record = ImageRecord(path)
    for number in range(3):
        record.pulled(f"r/{number}@sha256:0", image_id=f"{ID}{number}", base_layer="", size_bytes=number)
    record.used(f"{ID}0")
    assert [image.reference for image in record.images()] == ["r/1@sha256:0", "r/2@sha256:0", "r/0@sha256:0"]
    record.pull_begun("r/3@sha256:0")
    record.forget("r/1@sha256:0")
    record.forget("r/unknown@sha256:0")
    again = ImageRecord(path).images()
    assert again == record.images()
    assert [(image.reference, image.image_id) for image in again][-1] == ("r/3@sha256:0", None)


@pytest.mark.parametrize("content", [b"", b"{", b"[{}]", b"\xff", b'[{"reference": 1}]'])
def test_damaged_file_counts_as_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "images.json").write_bytes(content)
    assert ImageRecord(tmp_path / "images.json").images() == []


def test_pull_that_cannot_be_noted_is_told_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    with pytest.raises(OSError, match="exists"):
        ImageRecord(tmp_path / "cache" / "images.json").pull_begun("r@sha256:0")


def test_record_without_a_file_keeps_it_to_itself() -> None:
    record = ImageRecord(None)
    record.pull_begun("r@sha256:0")
    assert [image.reference for image in record.images()] == ["r@sha256:0"]
