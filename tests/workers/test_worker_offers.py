"""What a real worker process asks the portal for: its contributor's wishes, and the GPUs that are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.homes import home_make, profile_make
from tests.workers.nvml.machine import GIB, StubGpu, StubMachine
from tests.workers.portal_fake import FakePortal
from tests.workers.test_worker_process import Worker
from workers.home import NodeHome
from workers.protocol.messages.exchange import ExchangeRequest, Wishes
from workers.protocol.messages.machine import Gpu

pytestmark = pytest.mark.acceptance

GPUS = tuple(Gpu(index=index, uuid=f"GPU-{index}", name="T", memory_bytes=8 * GIB) for index in range(3))


@pytest.fixture
def home(tmp_path: Path, portal: FakePortal) -> NodeHome:
    """A home that has joined with three GPUs, of which it lends two."""
    settings = '[lend]\ngpus = ["GPU-0", "GPU-2"]\n[images]\nallowed = ["a/*"]\n[wishes]\ncredit_rate_min = 2\n'
    home = home_make(tmp_path / "home", portal, settings=settings)
    home.profile_write(profile_make(gpus=GPUS))
    return home


@pytest.fixture
def asked(home: NodeHome, tmp_path: Path, portal: FakePortal, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExchangeRequest]:
    """The first exchange of a worker on this home, on a machine whose third GPU has taken another slot and whose first one is lost."""
    machine = StubMachine(tmp_path, StubGpu("GPU-0").lost(), StubGpu("GPU-2", memory_bytes=24 * GIB), StubGpu("GPU-1"))
    for name in ("LD_LIBRARY_PATH", "NVML_STUB_MACHINE"):
        monkeypatch.setenv(name, machine.environment[name])
    worker = Worker(home, tmp_path / "worker.log")
    try:
        with portal.changed:
            assert portal.changed.wait_for(lambda: portal.exchanges, 30), worker.log.read_text()
        yield portal.exchanges[0]
    finally:
        worker.end()
    assert "not offered until they are back: GPU-0" in worker.log.read_text()


def test_worker_asks_for_what_its_contributor_wishes_with_the_gpus_that_are_there(asked: ExchangeRequest) -> None:
    assert asked.wishes == Wishes(images=("a/*",), credit_rate_min=2)
    assert [(gpu.index, gpu.uuid, gpu.memory_bytes) for gpu in asked.free.gpus] == [(1, "GPU-2", 24 * GIB)]
