"""The node home and its settings: what is refused, and in what words."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tests.workers.homes import GIB, profile_make
from workers.caps import Caps, NodeSettings
from workers.home import HomeDamagedError, HomeError, HomeLockedError, HomeMissingError, HomeUnlockableError, NodeHome, portal_origin_parse
from workers.protocol.messages.exchange import Wishes
from workers.protocol.messages.machine import Gpu, Tier
from workers.worker_queues import QueuesRefusedError, queues_check

GPUS = tuple(Gpu(index=index, uuid=f"GPU-{index}", name="T", memory_bytes=8 * GIB) for index in range(2))


def test_home_that_is_not_there(tmp_path: Path) -> None:
    home = NodeHome(tmp_path / "nothing")
    for read in (home.identity, home.profile, home.lock):
        with pytest.raises(HomeMissingError, match="nexa join"):
            read()


def test_one_lock_at_a_time_and_the_holder_is_named(home: NodeHome) -> None:
    lock = home.lock()
    with pytest.raises(HomeLockedError, match="process"):
        home.lock()
    lock.release()
    home.lock().release()


def test_file_system_without_locks_is_told_from_another_worker(home: NodeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", without_locks)
    with pytest.raises(HomeUnlockableError, match=r"No locks available.*local disk"):
        home.lock()


@pytest.mark.parametrize("name", ["node.json", "profile.json"])
@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"portal": 1}'])
def test_damaged_file_is_named(home: NodeHome, name: str, text: str) -> None:
    (home.folder / name).write_text(text)
    with pytest.raises(HomeDamagedError, match=name):
        (home.identity if name == "node.json" else home.profile)()


def test_file_that_is_no_text(home: NodeHome) -> None:
    (home.folder / "node.json").write_bytes(b"\xff\xfe")
    with pytest.raises(HomeDamagedError, match="UTF-8"):
        home.identity()


@pytest.mark.parametrize(
    "text", ["https://portal.example.org", "https://portal.example.org:8443/", "http://127.0.0.1:8000", "http://[::1]:80"]
)
def test_portal_address(text: str) -> None:
    assert portal_origin_parse(text) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "http://portal.example.org",
        "ftp://x",
        "portal",
        "https://",
        "https://a/b",
        "https://a?b",
        "https://u:p@a",
        "https://a:99999",
        "https://[::1",
        "http://127.0.0.1.example.org",
    ],
)
def test_portal_address_refused(text: str) -> None:
    with pytest.raises(HomeError):
        portal_origin_parse(text)


def test_settings_left_out_mean_the_machine(tmp_path: Path) -> None:
    caps = Caps.of(NodeSettings.read(tmp_path / "node.toml"), profile_make(cores=6, gpus=GPUS))
    assert (caps.slots, caps.cpus, caps.gpus) == (3, 6.0, GPUS)
    assert caps.memory_bytes == int(8 * GIB * 0.8)
    assert caps.wishes == Wishes()


def test_settings_never_lend_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[lend]\ncores = 64\nmemory_gib = 512\nslots = 1\ngpus = ["GPU-1"]\n')
    caps = Caps.of(NodeSettings.read(path), profile_make(cores=4, gpus=GPUS))
    assert (caps.slots, caps.cpus, caps.memory_bytes, caps.gpus) == (1, 4.0, 8 * GIB, GPUS[1:])


def test_wishes_are_read_from_both_sections(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[images]\nallowed = ["a/*", "b:1"]\n[wishes]\njob_types = ["chemistry.*"]\ncredit_rate_min = 0.5\n')
    caps = Caps.of(NodeSettings.read(path), profile_make(cores=4, gpus=()))
    assert caps.wishes == Wishes(images=("a/*", "b:1"), job_types=("chemistry.*",), credit_rate_min=0.5)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[lend", "TOML"),
        ("[lend]\ncore = 4", "lend.core"),
        ("[lend]\ncores = -1", "lend.cores"),
        ("[lend]\nmemory_gib = inf", "memory_gib"),
        ('[images]\nallowed = ["a?"]', "images.allowed.0"),  # no other wildcards than *
        ('[wishes]\njob_types = [""]', "wishes.job_types.0"),
        ("[wishes]\ncredit_rate_min = -1", "wishes.credit_rate_min"),
        (f"[images]\nallowed = {['a'] * 33}", "images.allowed"),
    ],
)
def test_settings_that_are_wrong_are_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(text)
    with pytest.raises(HomeDamagedError, match=named):
        NodeSettings.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(HomeDamagedError, match="can't be read"):
        NodeSettings.read(path)


def test_gpu_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[lend]\ngpus = ["GPU-9"]\n')
    with pytest.raises(HomeDamagedError, match="it has: GPU-0, GPU-1"):
        Caps.of(NodeSettings.read(path), profile_make(gpus=GPUS))


def test_queues() -> None:
    allowed = (Tier.GPU_TIER1, Tier.CPU)
    assert queues_check(None, allowed=allowed) == allowed
    assert queues_check(["cpu", "gpu-tier1"], allowed=allowed) == allowed
    assert queues_check([" cpu"], allowed=allowed) == (Tier.CPU,)
    with pytest.raises(QueuesRefusedError, match="'celery'"):
        queues_check(["cpu", "celery"], allowed=allowed)
