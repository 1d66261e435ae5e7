"""Where a node home is, and when that is another place than before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from workers.home import NodeHome
from workers.home_errors import HomeCopiedError
from workers.home_place import HomePlace, place_check, place_of


def check(folder: Path, recorded: HomePlace, found: HomePlace) -> None:
    place_check(folder, recorded=recorded, found=found)


def test_home_that_stayed_and_one_that_was_renamed(home: NodeHome) -> None:
    home.place_check()
    moved = home.folder.rename(home.folder.with_name("renamed"))
    NodeHome(moved).place_check()


@pytest.mark.parametrize("keep", ["original", "copy"])
def test_copy_is_refused_also_when_the_original_is_gone(home: NodeHome, keep: str) -> None:
    copy = home.folder.with_name("copy")
    shutil.copytree(home.folder, copy)
    if keep == "copy":
        shutil.rmtree(home.folder)
    with pytest.raises(HomeCopiedError, match=r"another folder.*nexa key rotate"):
        NodeHome(copy).place_check()


def test_same_folder_on_another_machine(tmp_path: Path) -> None:
    machine = tmp_path / "machine-id"
    places = []
    for text in ("0123456789abcdef0123456789abcdef\n", "fedcba9876543210fedcba9876543210\n"):
        machine.write_text(text)
        places.append(place_of(tmp_path, machine_id_path=machine))
        assert text.strip() not in str(places[-1])
    with pytest.raises(HomeCopiedError, match="another machine"):
        check(tmp_path, *places)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_machine_without_an_id_goes_by_the_folder(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "machine-id"
    if content is not None:
        path.write_bytes(content)
    without = place_of(tmp_path, machine_id_path=path)
    assert without.machine is None
    known = without.model_copy(update={"machine": "sha256:" + "ab" * 32})
    for recorded, found in ((without, without), (without, known), (known, without)):
        check(tmp_path, recorded, found)
    with pytest.raises(HomeCopiedError):
        check(tmp_path, without, without.model_copy(update={"folder_inode": without.folder_inode + 1}))
