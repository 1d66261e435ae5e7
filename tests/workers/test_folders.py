"""Folders that hostile containers leave: they are removed whole, and what links in them point to stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.workers.runtime_fake import FakeRuntime
from workers.folders import folder_remove
from workers.home import NodeHome
from workers.host import Host
from workers.protocol.messages.order import Limits
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.output_watch import FolderSize, excess_of, folder_measure
from workers.transport import OrderQueue

DEPTH = 3000
LIMITS = Limits(wall_seconds=10, memory_bytes=2**28, cpus=1, pids=64, disk_bytes=2**30, output_bytes=2**30)


def nest(folder: Path, depth: int = DEPTH) -> None:
    """Folders in folders, deeper than a path can say, as a program gets them that changes into each."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("dd", dir_fd=descriptor)
        inner = os.open("dd", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)


def test_folders_nested_beyond_recursion_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    (folder / "wide").mkdir(parents=True)
    for number in range(50):
        (folder / "wide" / str(number)).mkdir()
        (folder / "wide" / str(number) / "file").write_bytes(b"1")
    nest(folder)
    assert folder_remove(folder)
    assert list(tmp_path.iterdir()) == []
    assert folder_remove(folder)  # not there: fine


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_bytes(b"1")
    folder = tmp_path / "outputs"
    (folder / "inner").mkdir(parents=True)
    (folder / "link").symlink_to(kept)
    (folder / "inner" / "link").symlink_to(kept)
    (folder / "inner" / "dangling").symlink_to("/nowhere")
    folder_remove(folder)
    assert (folder.exists(), (kept / "file").read_bytes()) == (False, b"1")
    (tmp_path / "outer").symlink_to(kept)
    folder_remove(tmp_path / "outer")
    assert (kept / "file").exists()


CLOSED = """
import os, pathlib, sys
sys.path[:] = sys.argv[2:]
from workers.folders import folder_remove
folder = pathlib.Path(sys.argv[1], "outputs")
if os.geteuid() == 0:
    os.setgid(12345)
    os.setuid(12345)
(folder / "a" / "b").mkdir(parents=True)
(folder / "a" / "b" / "c").write_text("1")
for name in ("a/b", "a", "."):
    (folder / name).chmod(0)
folder_remove(folder)
print(folder.exists())
"""


def test_folders_closed_to_their_own_owner_are_removed() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        done = subprocess.run([sys.executable, "-c", CLOSED, name, *sys.path], capture_output=True, text=True, check=False, cwd="/")
    assert (done.stdout, done.stderr) == ("False\n", "")


OTHERS = """
import logging, os, pathlib, sys
sys.path[:] = sys.argv[2:]
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from workers.folders import folder_remove
folder = pathlib.Path(sys.argv[1], "outputs")
(folder / "inner").mkdir(parents=True)
(folder / "inner" / "kept").write_text("1")
(folder / "own").write_text("1")
os.chown(folder, 12345, 12345)
os.setgid(12345)
os.setuid(12345)
print(folder_remove(folder), (folder / "inner" / "kept").exists(), (folder / "own").exists())
"""


@pytest.mark.docker  # whoever may run an engine here is root, which giving files away needs
def test_what_another_user_owns_stays_and_is_told() -> None:
    """As a container's user under an engine that gives it another one than this host's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        done = subprocess.run([sys.executable, "-c", OTHERS, name, *sys.path], capture_output=True, text=True, check=False, cwd="/")
    said, found = done.stdout.splitlines()
    assert (found, done.stderr) == ("False True False", "")
    assert "outputs could not be removed whole" in said


def test_worker_starts_over_what_a_hostile_job_left(home: NodeHome) -> None:
    left = home.work_folder / "00000000-0000-0000-0000-000000000000"
    left.mkdir(parents=True)
    nest(left)
    host = Host.open(home, queues=None, runtime_make=FakeRuntime, orders=OrderQueue())
    try:
        host.start()
        assert list(home.work_folder.iterdir()) == []
    finally:
        host.close()
        folder_remove(left)


@pytest.mark.parametrize(
    ("output_bytes", "disk_bytes", "code"),
    [(32, 64, FailureCode.LIMIT_OUTPUT), (512, 64, FailureCode.LIMIT_DISK), (64, 64, FailureCode.LIMIT_OUTPUT)],
)
def test_of_two_limits_that_a_late_look_finds_passed_the_first_is_named(output_bytes: int, disk_bytes: int, code: FailureCode) -> None:
    limits = LIMITS.model_copy(update={"output_bytes": output_bytes * 2**20, "disk_bytes": disk_bytes * 2**20})
    for mib in (600, 6000):  # of files that are as large as they take disk
        failure = excess_of(FolderSize(content_bytes=mib * 2**20, allocated_bytes=mib * 2**20), limits)
        assert failure is not None
        assert failure.code is code


def test_outputs_too_deep_to_measure_are_an_excess(tmp_path: Path) -> None:
    nest(tmp_path)
    try:
        failure = excess_of(folder_measure(tmp_path), LIMITS)
    finally:
        folder_remove(tmp_path / "dd")
    assert failure is not None
    assert (failure.code, "can't be measured" in failure.message) == (FailureCode.LIMIT_DISK, True)
