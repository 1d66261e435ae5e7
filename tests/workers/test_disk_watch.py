"""Disks as work sees them: what caches hold is free until it is needed, and below the reserve no work is wanted.

Free space is that of the real disk under the test's folder; reserves are set around it, so that other work on the machine changes little.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.workers.portal_fake import FakePortal
from tests.workers.runtime_fake import FakeImages, FakeRuntime
from workers.disk_watch import DiskWatch
from workers.home import NodeHome
from workers.host import Host
from workers.protocol.messages.exchange import NoWork
from workers.transport import OrderQueue

GIB = 2**30
SLACK = 4 * GIB
"""What other work on the machine may write or remove during a test."""
SHM = Path("/dev/shm")  # noqa: S108  a disk other than that of the test's folder


@dataclass
class Inputs:
    """A cache that holds what it says."""

    held_bytes: int = 0
    asked: list[int] = field(default_factory=list)

    def kept_bytes(self) -> int:
        return self.held_bytes

    def trim(self, *, room_bytes: int | None = None) -> int:
        if room_bytes is None:
            return 0
        self.asked.append(room_bytes)
        given, self.held_bytes = self.held_bytes, 0
        return given


@contextmanager
def watching(
    folder: Path, *, reserve_bytes: int, inputs: Inputs | None = None, images: FakeImages | None = None, owed: dict[UUID, int] | None = None
) -> Iterator[tuple[DiskWatch, list[NoWork | None]]]:
    watch = DiskWatch(
        home_folder=folder,
        work_folder=folder / "work",
        inputs=inputs or Inputs(),
        images=images or FakeImages(),
        reserve_bytes=reserve_bytes,
    )
    heard: list[NoWork | None] = []
    watch.start(owed=lambda: owed or {}, changed=lambda: heard.append(watch.hold()))
    try:
        yield watch, heard
    finally:
        watch.stop()


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def test_what_caches_hold_counts_as_free(tmp_path: Path) -> None:
    free = free_bytes(tmp_path)
    with watching(tmp_path, reserve_bytes=GIB, inputs=Inputs(500 * GIB), images=FakeImages(tmp_path, [300 * GIB])) as (watch, heard):
        assert watch.free_bytes() == pytest.approx(free + 800 * GIB - GIB, abs=SLACK)
    assert heard == []


def test_images_on_another_disk_make_no_room_at_home(tmp_path: Path) -> None:
    with watching(tmp_path, reserve_bytes=0, images=FakeImages(SHM, [300 * GIB])) as (watch, _):
        assert watch.free_bytes() == pytest.approx(free_bytes(tmp_path), abs=SLACK)


def test_disk_below_its_reserve_wants_no_work_and_says_why(tmp_path: Path) -> None:
    with watching(tmp_path, reserve_bytes=free_bytes(tmp_path) + 100 * GIB) as (watch, heard):
        hold = watch.hold()
        assert hold is not None
        assert (hold.code, "under the node home" in hold.message, str(tmp_path) in hold.message) == ("disk_low", True, False)
        assert (heard, watch.free_bytes() < 0) == ([hold], True)


@pytest.mark.parametrize("which", ["home", "work"])
def test_home_that_cannot_be_written_wants_no_work_until_it_can(tmp_path: Path, portal: FakePortal, which: str) -> None:
    home = tmp_path / "home"
    aside, folder = tmp_path / "aside", home if which == "home" else home / "work"
    (home / "work").mkdir(parents=True)
    with watching(home, reserve_bytes=0) as (watch, heard):
        assert watch.hold() is None
        folder.rename(aside)
        folder.write_bytes(b"in its place: root, too, can write nothing there")
        watch.wake()
        portal.wait_for(lambda: heard, "the hold")
        hold = heard[0]
        assert hold is not None
        assert (hold.code, "work/" in hold.message, str(tmp_path) in hold.message) == ("home_unwritable", which == "work", False)
        folder.unlink()
        aside.rename(folder)
        watch.wake()
        portal.wait_for(lambda: watch.hold() is None, "the end of the hold")
    assert sorted(path.name for path in home.rglob("*")) == ["work"]


def test_caches_give_way_before_work_is_refused(tmp_path: Path) -> None:
    inputs, images = Inputs(50 * GIB), FakeImages(tmp_path, [60 * GIB, 60 * GIB, 60 * GIB])
    with watching(tmp_path, reserve_bytes=free_bytes(tmp_path) + 100 * GIB, inputs=inputs, images=images) as (watch, _):
        # 100 GiB short: 50 by inputs, the rest by the image that was not used for longest. What is left still counts as free.
        assert (inputs.held_bytes, images.sizes) == (0, [60 * GIB, 60 * GIB])
        assert inputs.asked == [pytest.approx(100 * GIB, abs=SLACK)]
        assert watch.hold() is None


def test_room_is_made_for_what_runs_may_still_write(tmp_path: Path, portal: FakePortal) -> None:
    lease, inputs, images = uuid4(), Inputs(10 * GIB), FakeImages(tmp_path, [10 * GIB])
    owed = {lease: 0}
    with watching(tmp_path, reserve_bytes=0, inputs=inputs, images=images, owed=owed) as (watch, _):
        assert inputs.asked == []
        owed[lease] = free_bytes(tmp_path) + 50 * GIB
        watch.wake()
        portal.wait_for(lambda: images.sizes == [] and inputs.held_bytes == 0, "the caches to give way")


def test_engine_disk_below_its_reserve_loses_images_and_then_wants_no_work(tmp_path: Path) -> None:
    images = FakeImages(SHM, [GIB])
    with watching(tmp_path, reserve_bytes=free_bytes(SHM) + SLACK, inputs=Inputs(2**50), images=images) as (watch, _):
        hold = watch.hold()
        assert images.sizes == []
        assert hold is not None
        assert (hold.code, "of the container engine" in hold.message) == ("disk_low", True)


def test_what_a_run_has_written_is_measured(tmp_path: Path) -> None:
    lease = uuid4()
    folder = tmp_path / "work" / str(lease)
    (folder / "outputs" / "deep").mkdir(parents=True)
    (folder / "inputs").mkdir()
    (folder / "outputs" / "deep" / "a").write_bytes(bytes(3_000_000))
    (folder / "inputs" / "b").write_bytes(bytes(9_000_000))
    with watching(tmp_path, reserve_bytes=0, owed={lease: 10**9}) as (watch, _):
        assert watch.written_bytes(lease) == pytest.approx(3_000_000, rel=0.02)
        assert watch.written_bytes(uuid4()) == 0


def test_host_with_too_little_disk_asks_for_no_work_and_says_why(home: NodeHome, portal: FakePortal) -> None:
    home.settings_path.write_text("[lend]\ndisk_reserve_gib = 1e9\n")
    host = Host.open(home, queues=None, runtime_make=FakeRuntime, orders=OrderQueue())
    try:
        host.start()
        portal.wait_for(lambda: portal.exchanges, "an exchange")
        hold = portal.exchanges[0].hold
        assert hold is not None
        assert (hold.code, portal.exchanges[0].free.slots) == ("disk_low", 0)
    finally:
        host.drain()
        host.close()
