"""An image that is hostile itself: programs that would run as root or with capabilities, a root user, volumes, wishes for devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.adversary import attacks, probes
from tests.adversary.arena import MIB, Arena
from workers.protocol.messages.receipt import FailureCode

pytestmark = pytest.mark.docker

ALL_CAPABILITIES = 0x02000001, 0xFFFFFFFF, 0, 0x1FF, 0
"""A `vfs_cap_data` of revision 2 in 32-bit words: effective, and permitting all."""

SCRIPT = f"""
import os, shutil, struct, sys
os.mkdir("/data")
os.chmod("/data", 0o777)
for name in ("setuid", "setgid", "capable"):
    shutil.copy(os.path.realpath(sys.executable), "/usr/bin/python-" + name)
os.chmod("/usr/bin/python-setuid", 0o4755)
os.chmod("/usr/bin/python-setgid", 0o2755)
os.setxattr("/usr/bin/python-capable", "security.capability", struct.pack("<5I", *{ALL_CAPABILITIES}))
"""
WHO = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
NOBODY = "(65534, 65534, 65534) (65534, 65534, 65534) [65534]"


@pytest.fixture(scope="module")
def hostile(image_id: str) -> Iterator[str]:
    """The image, gone after the tests."""
    client = docker.from_env()
    container = client.containers.create(image_id, ["python3", "-c", SCRIPT], user="root", network_mode="none")
    image = None
    try:
        container.start()
        assert container.wait()["StatusCode"] == 0, container.logs()
        changes = ["USER root", "VOLUME /data", "ENV NVIDIA_VISIBLE_DEVICES=all NEXA_OUTPUTS=/etc", "ENTRYPOINT []", "WORKDIR /data"]
        image = container.commit(changes=changes)
        yield str(image.id)
    finally:
        container.remove(force=True, v=True)
        if image is not None:
            client.images.remove(str(image.id), force=True)
        client.close()


@pytest.mark.parametrize("program", ["python3", "python-setuid", "python-setgid"])
def test_program_of_another_owner_runs_as_nobody(arena: Arena, hostile: str, program: str) -> None:
    outcome = arena.run(program, "-c", WHO, image_id=hostile)
    assert (outcome.failure, outcome.sink.output["stdout"].decode().strip()) == (None, NOBODY), outcome.sink.output
    arena.healthy_check(outcome)


def test_program_with_capabilities_has_none_or_does_not_start(arena: Arena, hostile: str) -> None:
    abilities = "print([line.split()[1] for line in open('/proc/self/status') if line[:6] == 'CapEff'][0])"
    outcome = arena.run("sh", "-c", f'python-capable -c "{abilities}" || echo refused', image_id=hostile)
    assert (outcome.failure, outcome.sink.output["stdout"].strip() in {b"refused", b"0000000000000000"}) == (None, True)
    arena.healthy_check(outcome)


@pytest.mark.parametrize(("attack", "said"), [("fill", "ENOSPC"), ("inodes", "ENOSPC")])
def test_volume_of_an_image_is_memory_within_the_containers(arena: Arena, hostile: str, attack: str, said: str) -> None:
    """As much as its memory, and it is killed; less than that, and it is full."""
    small, large = {"disk_bytes": 16 * MIB, "memory_bytes": 256 * MIB}, {"disk_bytes": 256 * MIB, "memory_bytes": 32 * MIB}
    command = ["python3", "/inputs/attacks.py", attack, "/data"]
    full = arena.run(*command, program=Path(attacks.__file__), image_id=hostile, **small)
    assert (full.failure, full.said[0]) == (None, said)
    arena.healthy_check(full)
    killed = arena.run(*command, program=Path(attacks.__file__), image_id=hostile, **large)
    assert killed.failure is FailureCode.LIMIT_MEMORY
    arena.healthy_check(killed)


def test_image_decides_neither_environment_nor_devices(arena: Arena, hostile: str) -> None:
    outcome = arena.run("python3", "-c", "import json, os; print(json.dumps(dict(os.environ)))", image_id=hostile)
    environment: dict[str, Any] = outcome.said
    assert (environment["NVIDIA_VISIBLE_DEVICES"], environment["NEXA_OUTPUTS"]) == ("void", "/outputs")
    mounts = arena.run("python3", "/inputs/probes.py", "mounts", program=Path(probes.__file__), image_id=hostile)
    assert mounts.said["mounts"]["/data"] == ["tmpfs", "nodev", "nosuid", "rw"]
    arena.healthy_check(mounts)
