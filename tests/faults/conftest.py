"""What the fault tests of hosts share: a stack whose hosts can be made to die at a named moment, and what must hold when all is over."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import pytest

from devstack.engine import EngineHandle, engine_ensure
from tests.acceptance.conftest import TINY
from tests.acceptance.running_stack import RunningStack, stack_running
from tests.acceptance.traces import wait_for
from workers.journal import Fact, Journal

HOST = "ada-host"
OTHER = "emmy-host"
LIMIT_SECONDS = 90.0
"""For what is waited for, on a machine that does other things too."""

BULK_BYTES = 20_000_000
"""Of outputs: three chunks of an upload."""

SCRIPT = f"""
import os, pathlib, time
print("up", flush=True)
time.sleep(float(os.environ.get("BULK_SECONDS", "1")))
outputs = pathlib.Path("/outputs")
(outputs / "bulk").write_bytes(os.urandom(1) * {BULK_BYTES})
(outputs / "sum.json").write_text("{{}}")
print("down", flush=True)
"""


@pytest.fixture(scope="session")
def engine() -> EngineHandle:
    return engine_ensure(report=print)


ONE_HOST = [pytest.mark.acceptance, pytest.mark.docker, pytest.mark.xdist_group("one_host")]
"""Marks of modules that use `running`: all in one process, which starts it once."""


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory, engine: EngineHandle) -> Iterator[RunningStack]:
    """One host, so that a job is finished by it or not at all. Whoever ends a process of it starts it again."""
    with stack_running(
        tmp_path_factory.mktemp("stack"),
        engine,
        TINY,
        owners=("ada",),
        node_settings="[lend]\nslots = 1\n",
        host_app="tests.faults.host_app",
    ) as found:
        yield found


def bulk_submit(running: RunningStack, *, seconds: float = 1.0, **changes: Any) -> str:
    """A job of one copy that takes so long and leaves BULK_BYTES; returns its id."""
    limits = {"wall_seconds": 60, "memory_mb": 128, "cpus": 1, "pids": 32, "disk_mb": 64, "output_mb": 32}
    wanted = {
        "command": ["python3", "-c", SCRIPT],
        "limits": limits,
        "verification": {"method": "numeric", "copies": 1, "quorum": 1},
    }
    return running.submit(TINY, environment={"BULK_SECONDS": str(seconds)}, **(wanted | changes))


class Books:
    """What the contributors had before, to compare with afterwards."""

    def __init__(self, running: RunningStack) -> None:
        self._running = running
        self._before = self._balances()

    def expect_paid_once(self, job_id: str) -> None:
        """One accepted replica, and it alone was paid, what it is said to have been paid."""
        (accepted,) = [one for one in self._running.researcher.job_replicas(job_id) if one["state"] == "accepted"]
        owner = self._running.hosts[accepted["node"]].owner
        earned = {name: micro - self._before[name] for name, micro in self._balances().items()}
        assert earned == {**dict.fromkeys(earned, 0), owner: int(accepted["result"]["paid_micro"])}
        assert earned[owner] > 0

    def _balances(self) -> dict[str, int]:
        return {owner: self._running.balance_micro(api) for owner, api in self._running.contributors.items()}


def expect_nothing_left(running: RunningStack, engine: EngineHandle, *, engine_url: str | None = None) -> None:
    """No container, no folder of a run, no debt, on any host."""
    client = docker.APIClient(base_url=engine_url or engine.base_url, version="auto")

    def left() -> list[str]:
        found = []
        for name, host in running.hosts.items():
            containers = client.containers(all=True, filters={"label": f"nexapod.home={running.node_id(name)}"})
            found += [f"{name}: {one['Names']} {one['Status']}" for one in containers]
            found += [f"{name}: {owed}" for owed in _owed(host.home)]
        return found

    try:
        wait_for(lambda: not left(), limit_seconds=20, what=lambda: str(left()))
    finally:
        client.close()


def portal_heard(running: RunningStack, host: str = HOST) -> datetime:
    """When the host's worker last had an answer from the portal."""
    journal = Journal.read_only(running.hosts[host].home / "journal.sqlite")
    try:
        return journal.fact_noted_at(Fact.PORTAL) or datetime.min.replace(tzinfo=UTC)
    finally:
        journal.close()


def _owed(home: Path) -> list[str]:
    work = home / "work"
    left = [path.name for path in work.iterdir()] if work.is_dir() else []
    path = home / "journal.sqlite"
    if not path.exists():
        return left  # its worker was ended before it took anything on
    journal = Journal.read_only(path)
    try:
        return left + [f"{row.lease_id} {row.stage}" for row in journal.leases_open()]
    finally:
        journal.close()
