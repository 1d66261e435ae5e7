"""Outputs that are traps: the host packs ordinary files or refuses, and follows, opens and removes nothing that is not the container's."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adversary.arena import Arena
from tests.workers.test_folders import LIMITS, nest
from workers.folders import folder_remove
from workers.protocol.archives import OutputRefusedError, archive_check, archive_write
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.output_watch import (
    DEPTH_MAX,
    FolderSize,
    LinksBeyondError,
    excess_of,
    folder_measure,
    look_pause_seconds,
    unnamed_bytes,
)

SECRET = b"what only the host may read"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of the host's, as a node's key is one."""
    path = tmp_path / "home" / "key"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


@pytest.mark.docker
@pytest.mark.parametrize(
    ("kind", "target", "reason"),
    [
        ("symlink", "{secret}", "symlink"),
        ("symlink", "/etc/shadow", "symlink"),
        ("symlink", "../inputs/attacks.py", "symlink"),
        ("symlink_folder", "{home}", "symlink"),
        ("symlink_loop", "", "symlink"),
        ("symlink_proc", "", "symlink"),
        ("fifo", "", "fifo"),
        ("socket", "", "socket"),
        ("hard_link", "", "hard_link"),
        ("case", "", "collision"),
        ("name", b"line\nbreak".hex(), "name"),
        ("name", b"\xff\xfe".hex(), "name"),
        ("name", b"\x1b[2J".hex(), "name"),
        ("name", b"back\\slash".hex(), "name"),
        ("name", (b"n" * 255).hex(), None),
        ("name", b"...".hex(), None),
        ("name", b"-rf *".hex(), None),
        ("name", "$(touch owned); 'quoted' \u202e".encode().hex(), None),
        ("name", b"manifest.json".hex(), None),
    ],
)
def test_trick_in_the_outputs_is_refused_by_its_reason_or_packed_as_it_is(
    arena: Arena, secret: Path, kind: str, target: str, reason: str | None
) -> None:
    outcome = arena.attack("trick", kind, target.format(secret=secret, home=secret.parent))
    assert outcome.failure is None, outcome.sink.output
    packed = io.BytesIO()
    if reason is None:
        archive_write(outcome.outputs, packed)
        archive_check(io.BytesIO(packed.getvalue()))
    else:
        with pytest.raises(OutputRefusedError) as refused:
            archive_write(outcome.outputs, packed)
        assert (refused.value.reason, str(refused.value).isprintable()) == (reason, True)
    assert SECRET not in packed.getvalue()
    arena.healthy_check(outcome)
    assert secret.read_bytes() == SECRET


@pytest.mark.docker
def test_modes_and_owners_of_outputs_keep_the_host_from_nothing(arena: Arena) -> None:
    outcome = arena.attack("modes")
    assert (outcome.failure, outcome.said) == (None, 2)
    assert outcome.outputs.stat().st_uid == (outcome.outputs / "setuid").stat().st_uid == 65534
    packed = io.BytesIO()
    info = archive_write(outcome.outputs, packed)
    assert [file.path for file in info.manifest.files] == ["inner/closed/file", "setuid"]
    archive_check(io.BytesIO(packed.getvalue()))  # which knows one mode and one owner
    arena.healthy_check(outcome)


@pytest.fixture
def swapped(tmp_path: Path, secret: Path) -> Iterator[Path]:
    """Outputs where names are files and folders at one moment and links to the host's own at the next, as if a container had survived."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "a").write_bytes(b"ordinary")
    (tmp_path / "true_folder").mkdir()
    (tmp_path / "true_folder" / "key").write_bytes(b"ordinary")
    program = f"""
import os
os.chdir({str(tmp_path)!r})
os.symlink({str(secret.parent)!r}, "false_folder")
os.symlink({str(secret)!r}, "false_file")
open("true_file", "w").write("ordinary")
while True:
    for place in ("folder", "file"):
        for name in (f"true_{{place}}", f"false_{{place}}"):
            os.rename(name, f"outputs/{{place}}")
            os.rename(f"outputs/{{place}}", name)
"""
    with subprocess.Popen([sys.executable, "-c", program]) as process:
        yield folder
        process.kill()


def test_outputs_swapped_for_links_while_they_are_packed_are_not_followed(swapped: Path) -> None:
    packed = refused = 0
    end = time.monotonic() + 60
    while (packed < 200 or refused < 200) and time.monotonic() < end:
        archive = io.BytesIO()
        try:
            archive_write(swapped, archive)
            packed += 1
        except (OutputRefusedError, OSError):
            refused += 1
        assert SECRET not in archive.getvalue()
    assert min(packed, refused) >= 200


def test_output_swapped_for_a_link_after_the_host_has_listed_it_is_not_followed(tmp_path: Path, secret: Path) -> None:
    """As above, at the worst moment: when the first file is being written, the names of all others are known."""
    folder = tmp_path / "outputs"
    (folder / "c").mkdir(parents=True)
    for name in ("a", "b", "c/key"):
        (folder / name).write_bytes(b"ordinary")

    class Swapping(io.BytesIO):
        def write(self, data: object) -> int:
            if not (folder / "gone").exists():
                (folder / "c").rename(folder / "gone")
                (folder / "c").symlink_to(secret.parent)
                (folder / "b").unlink()
            return super().write(data)  # type: ignore[arg-type]  # bytes, as the archive gives them

    archive = Swapping()
    with pytest.raises(OSError, match=r"b|c"):
        archive_write(folder, archive)
    (folder / "b").write_bytes(b"ordinary")
    with pytest.raises((OutputRefusedError, OSError)):
        archive_write(folder, archive)
    assert SECRET not in archive.getvalue()


def test_measuring_follows_no_link(tmp_path: Path) -> None:
    crowded = tmp_path / "crowded"
    (crowded / "inner").mkdir(parents=True)
    for number in range(100):
        (crowded / "inner" / str(number)).write_bytes(b"1")
    folder = tmp_path / "outputs"
    folder.mkdir()
    (folder / "link").symlink_to(crowded)
    assert folder_measure(folder).entries == 1
    # The name of a folder that was listed, and is a link by the time it is opened.
    assert folder_measure(folder / "link").entries == 0
    assert folder_measure(crowded).entries == 101


def test_folders_may_be_as_deep_as_a_path_of_an_archive(tmp_path: Path) -> None:
    nest(tmp_path, DEPTH_MAX)
    assert (folder_measure(tmp_path).hidden, folder_measure(tmp_path).entries) == (False, DEPTH_MAX + 1)
    folder_remove(tmp_path / "dd")
    nest(tmp_path, DEPTH_MAX + 1)
    assert folder_measure(tmp_path).hidden
    folder_remove(tmp_path / "dd")


def test_looks_are_close_and_take_little_of_the_time() -> None:
    assert [look_pause_seconds(seconds) for seconds in (0, 0.0001, 0.002, 1)] == [0.02, 0.02, 0.1, 1.0]


def test_file_without_a_name_counts_while_it_is_held(tmp_path: Path) -> None:
    """Of this disk, and once however often it is held; what has a name is counted by it."""
    device = tmp_path.stat().st_dev
    before = unnamed_bytes([os.getpid()], device=device)
    with contextlib.ExitStack() as held:
        for name, removed in (("a", True), ("b", False)):
            file = held.enter_context((tmp_path / name).open("wb"))
            file.write(bytes(2**20))
            file.flush()
            os.fsync(file.fileno())
            held.callback(os.close, os.dup(file.fileno()))
            if removed:
                (tmp_path / name).unlink()
        assert 2**20 <= unnamed_bytes([os.getpid()], device=device) - before < 2**20 + 2**16
        assert unnamed_bytes([os.getpid()], device=device + 1) == 0
    assert unnamed_bytes([os.getpid()], device=device) == before
    assert unnamed_bytes([2**22 + 1], device=device) == 0


def _processes(proc: Path, file: Path, *, count: int, descriptors: int) -> list[int]:
    """As the kernel shows processes that hold one file many times; one that has just ended among them."""
    for pid in range(1, count + 1):
        (proc / str(pid) / "fd").mkdir(parents=True)
        (proc / str(pid) / "map_files").mkdir()
        for number in range(descriptors):
            (proc / str(pid) / "fd" / str(number)).symlink_to(file)
    return [2**22 + 1, *range(1, count + 1)]


def test_descriptors_are_looked_through_up_to_a_number(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"1")
    proc, device = tmp_path / "proc", tmp_path.stat().st_dev
    pids = _processes(proc, file, count=5, descriptors=20)  # 100 links in 10 folders, and 2 folders that are not there
    assert unnamed_bytes(pids, device=device, proc=proc, links_max=112) == 0
    with pytest.raises(LinksBeyondError) as beyond:
        unnamed_bytes(pids, device=device, proc=proc, links_max=50)
    assert beyond.value.links == 51
    with pytest.raises(LinksBeyondError) as beyond:  # processes alone, whether anything is found of them or not
        unnamed_bytes(range(2**22 + 1, 2**22 + 1000), device=device, proc=proc, links_max=50)
    assert beyond.value.links == 52


def test_descriptors_are_looked_through_for_a_time(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"1")
    pids = _processes(tmp_path / "proc", file, count=2, descriptors=20)
    with pytest.raises(LinksBeyondError) as beyond:
        unnamed_bytes(pids, device=tmp_path.stat().st_dev, proc=tmp_path / "proc", seconds_max=-1)
    assert beyond.value.links < 5


def test_what_could_not_be_looked_through_is_an_excess_that_says_how_much_was() -> None:
    failure = excess_of(FolderSize(unseen=12345), LIMITS)
    assert failure is not None
    assert (failure.code, "12345" in failure.message) == (FailureCode.LIMIT_DISK, True)
