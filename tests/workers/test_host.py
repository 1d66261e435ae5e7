"""Opening a host: what is cleaned up, and what keeps it from starting without keeping the home locked."""

from __future__ import annotations

import pytest

from tests.workers.runtime_fake import FakeRuntime
from workers.home import NodeHome
from workers.host import Host
from workers.journal import JournalError
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.interface import RuntimeFailureError
from workers.transport import OrderQueue
from workers.worker_queues import QueuesRefusedError


def open_host(home: NodeHome, runtime: FakeRuntime, queues: list[str] | None = None) -> Host:
    return Host.open(home, queues=queues, runtime_make=lambda: runtime, orders=OrderQueue())


def test_engine_that_is_away_is_waited_for(home: NodeHome) -> None:
    host = open_host(home, FakeRuntime(away=True))
    assert host.caps.slots == 2
    host.close()
    home.lock().release()


def test_engine_that_would_ignore_a_limit_gets_no_jobs(home: NodeHome) -> None:
    with pytest.raises(RuntimeFailureError, match="ignore the limits memory, pids") as caught:
        open_host(home, FakeRuntime(limits_ignored=("memory", "pids")))
    assert caught.value.failure.code is FailureCode.HOST_REFUSED
    home.lock().release()


def test_refused_starts_leave_the_home_unlocked(home: NodeHome) -> None:
    with pytest.raises(QueuesRefusedError):
        open_host(home, FakeRuntime(), [Tier.GPU_TIER3])
    home.journal_path.mkdir()
    with pytest.raises(JournalError):
        open_host(home, FakeRuntime())
    home.lock().release()
