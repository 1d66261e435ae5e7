"""The soak: many short containers on two hosts while something is killed every few seconds. `make soak` runs it.

Whatever dies, at the end every job has ended, completed ones are paid once for each accepted replica, and nothing is left anywhere. The
seed decides what is killed and after how long; how far the work has come by then, the machine decides.
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

import psycopg
import redis
from rich.console import Console

from benchmarks.books import books_faults, leftovers, shape_print, shape_read
from devstack.engine import EngineHandle, engine_ensure
from tests.acceptance.running_stack import BASE_IMAGE, LEASE_SECONDS, SETTINGS, RunningStack, stack_running
from workers.portal import PortalUnreachableError

OWNERS: Final = ("ada", "emmy")
PORTAL_SETTINGS: Final = {**SETTINGS, "NEXA_VERIFY_CLAIM_SECONDS": "5"}
NODE_SETTINGS: Final = "[lend]\nslots = 2\n"
WORKER_SETTINGS: Final = "[worker]\ndrain_seconds = 20\nreport_seconds = 10\n"
OPEN_JOBS_MAX: Final = 20
"""Submitted and not ended: enough for both hosts, and few enough for what is killed to matter to all that follow."""
QUEUE_DEADLINE_SECONDS: Final = 300
"""Far beyond the wait of a job that some host can have, on a slow machine too; one that neither can have fails by it."""
SECONDS_FOR_EACH_JOB: Final = 2.0
SECONDS_BESIDE: Final = QUEUE_DEADLINE_SECONDS + 60.0
SETTLE_SECONDS: Final = 60.0
"""More than a host may take that is told to stop and can't report."""
_TICK_SECONDS: Final = 0.2


class Kill(Enum):
    """What happens to the stack, and how often in comparison."""

    HOST = ("host killed, back at once", 4)
    HOST_LONG = ("host killed, back after its leases", 1)
    HOST_STOP = ("host told to stop, back when it has", 1)
    WORKER = ("control, verify or conclude killed", 3)
    WEB = ("web killed", 1)
    REDIS = ("Redis flushed", 1)

    def __init__(self, text: str, weight: int) -> None:
        self.text = text
        self.weight = weight


@dataclass(frozen=True)
class SoakPlan:
    """How much of it. `every_seconds`: between two kills, in the mean."""

    jobs: int
    seed: int
    every_seconds: float


@dataclass
class SoakReport:
    """What came of it. `faults`: what is not as it has to be, in words."""

    seconds: float = 0.0
    kills: Counter[Kill] = field(default_factory=Counter)
    stops: list[float] = field(default_factory=list)
    """Seconds from each SIGTERM of a host to its restart."""
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Restart:
    """What is to be started again when it has ended, not before `due`. `told`: when it was told to stop, None where it was killed."""

    name: str
    due: float
    told: float | None


class Soak:
    """One soak on a running stack with two hosts."""

    def __init__(self, plan: SoakPlan, running: RunningStack) -> None:
        self._plan = plan
        self._running = running
        self._random = random.Random(plan.seed)  # noqa: S311  a seed that can be given again is the point
        self._database = psycopg.connect(running.services.postgres_dsn, autocommit=True)
        self._redis = redis.Redis.from_url(running.services.redis_url)
        self._submitted = 0
        self._due: list[_Restart] = []
        self._report = SoakReport()

    def run(self) -> SoakReport:
        """Until every job has ended, or far beyond what they should take; then the books."""
        began = time.monotonic()
        limit = began + SECONDS_BESIDE + SECONDS_FOR_EACH_JOB * self._plan.jobs
        next_kill = began + self._interval()
        while time.monotonic() < limit:
            open_jobs = self._open_jobs()
            if self._submitted == self._plan.jobs and open_jobs == 0:
                break
            if open_jobs < OPEN_JOBS_MAX and self._submitted < self._plan.jobs:
                self._submit()
            else:
                time.sleep(_TICK_SECONDS)
            self._restarts()
            if time.monotonic() >= next_kill:
                self._kill()
                next_kill = time.monotonic() + self._interval()
        self._report.seconds = time.monotonic() - began
        self._report.faults += self._settled(self._stopping)
        self._report.faults += self._settled(lambda: leftovers(self._running, self._database))
        self._report.faults += self._settled(lambda: books_faults(self._running, self._database, jobs=self._plan.jobs))
        return self._report

    def close(self) -> None:
        """Connections only; the stack is its owner's."""
        self._database.close()
        self._redis.close()

    def print(self, console: Console) -> None:
        """What happened, for people."""
        shape_print(shape_read(self._database), seconds=self._report.seconds, console=console)
        kills = ", ".join(f"{count} x {kill.text}" for kill, count in sorted(self._report.kills.items(), key=lambda pair: pair[0].text))
        console.print(f"{self._report.kills.total()} kills: {kills}")
        if self._report.stops:
            console.print(f"hosts told to stop ended within {max(self._report.stops):.1f} s")
        for fault in self._report.faults:
            console.print(f"[red]{fault}[/red]")

    # --- what is done to the stack ------------------------------------------------------------------------------------

    def _submit(self) -> None:
        """The next job. Where the portal is away the same one is tried again, so that it is submitted once."""
        number = self._submitted
        copies = 2 if number % 5 == 0 else 1
        try:
            self._running.researcher.job_submit(
                {
                    "schema_version": "1.0",
                    "job_id": f"soak-{number}",
                    "type": "soak",
                    "docker_image": BASE_IMAGE,
                    "estimated_flops": 3.6e12,
                    "command": ["sh", "-c", f"sleep 0.{2 + number % 5}; echo {number} > $NEXA_OUTPUTS/number"],
                    "outputs": [{"path": "number"}],
                    "limits": {"wall_seconds": 60, "memory_mb": 64, "cpus": 0.5, "pids": 32, "disk_mb": 16, "output_mb": 4},
                    "verification": {"copies": copies, "quorum": copies},
                    "queue_deadline_seconds": QUEUE_DEADLINE_SECONDS,
                }
            )
        except PortalUnreachableError:
            time.sleep(_TICK_SECONDS)
        else:
            self._submitted += 1

    def _kill(self) -> None:
        kinds = list(Kill)
        kill = self._random.choices(kinds, [each.weight for each in kinds])[0]
        match kill:
            case Kill.HOST | Kill.HOST_LONG | Kill.HOST_STOP:
                name = self._random.choice([f"{owner}-host" for owner in OWNERS])
            case Kill.WORKER:
                name = self._random.choice(["control", "verify", "conclude"])
            case Kill.WEB:
                name = "web"
            case Kill.REDIS:
                self._redis.flushall()
                self._report.kills[kill] += 1
                return
        if not self._running.process(name).is_alive or any(one.name == name for one in self._due):
            return
        self._report.kills[kill] += 1
        now = time.monotonic()
        if kill is Kill.HOST_STOP:
            self._running.process(name).process.send_signal(signal.SIGTERM)
            self._due.append(_Restart(name, now, told=now))
        else:
            self._running.process_kill(name)
            delay_seconds = self._random.uniform(1.2, 2) * LEASE_SECONDS if kill is Kill.HOST_LONG else 0.0
            self._due.append(_Restart(name, now + delay_seconds, told=None))

    def _restarts(self, *, everything: bool = False) -> None:
        """Starts again what is due and has ended; `everything`: whether due or not."""
        now = time.monotonic()
        for one in list(self._due):
            if (one.due <= now or everything) and not self._running.process(one.name).is_alive:
                self._running.process_restart(one.name)
                self._due.remove(one)
                if one.told is not None:
                    self._report.stops.append(now - one.told)

    def _interval(self) -> float:
        return self._random.uniform(0.5, 1.5) * self._plan.every_seconds

    def _stopping(self) -> list[str]:
        """Restarts whatever is still to be restarted; what cannot be, because it was told to end and has not."""
        self._restarts(everything=True)
        if self._due:
            return [f"expected what was told to stop to have ended, found {len(self._due)} still running"]
        try:
            self._running.researcher.status()
        except PortalUnreachableError as error:
            return [f"expected the portal to be back, found: {error}"]
        return []

    # --- how it stands ------------------------------------------------------------------------------------------------

    def _open_jobs(self) -> int:
        row = self._database.execute("SELECT count(*) FROM jobs_job WHERE concluded_at IS NULL").fetchone()
        return int(row[0]) if row else 0

    def _settled(self, look: Callable[[], list[str]]) -> list[str]:
        """What `look` still finds when things have had time to settle."""
        limit = time.monotonic() + SETTLE_SECONDS
        while (found := look()) and time.monotonic() < limit:
            time.sleep(_TICK_SECONDS)
        return found


def soak(plan: SoakPlan, *, folder: Path, engine: EngineHandle, console: Console) -> SoakReport:
    """Runs a soak on a stack of its own and prints what came of it."""
    console.print(f"soak: {plan.jobs} jobs, something killed every {plan.every_seconds:g} s, seed {plan.seed}")
    with stack_running(
        folder, engine, owners=OWNERS, settings=PORTAL_SETTINGS, node_settings=NODE_SETTINGS, worker_settings=WORKER_SETTINGS
    ) as running:
        one = Soak(plan, running)
        try:
            report = one.run()
            one.print(console)
        finally:
            one.close()
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 1 where anything is not as it has to be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--seed", type=int, help="what is killed when; printed, so that it can be given again")
    parser.add_argument("--every", type=float, default=3.0, metavar="SECONDS", help="between two kills, in the mean")
    parser.add_argument("--logs", type=Path, help="an empty folder in which the stack's logs are kept")
    options = parser.parse_args(argv)
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    plan = SoakPlan(jobs=options.jobs, seed=seed, every_seconds=options.every)
    engine = engine_ensure(report=print)
    with tempfile.TemporaryDirectory(prefix="nexapod-soak-") as temporary:
        folder = options.logs or Path(temporary)
        report = soak(plan, folder=folder, engine=engine, console=Console())
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
