"""A coordinator whose processes can be made to die or to stand still at named moments, hosts that run nothing, and its books."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.books import books_faults
from devstack.stack import CHECKOUT, HOST_BIN
from tests.acceptance.conftest import TINY
from tests.acceptance.running_stack import SETTINGS, RunningStack, coordinator_running
from tests.acceptance.traces import wait_for
from tests.faults.http_host import HttpHost
from tests.faults.moments import moment_write
from tests.faults.server_moments import MOMENT_VARIABLE, SERVER_MOMENTS
from workers.orders import OpenedOrder

OWNERS: Final = ("ada", "emmy", "lise")
LIMIT_SECONDS: Final = 60.0
"""For what is waited for, on a machine that does other things too."""
CLAIM_SECONDS: Final = 1
"""After which a batch whose chord was lost is claimed again."""
IMAGES: Final = {"nexapod/tiny:1.0": "sha256:" + "ab" * 32}


class Coordinator:
    """`running`, with a host for each owner, and the moment at which one of its processes is to be signalled."""

    def __init__(self, running: RunningStack, moment_file: Path) -> None:
        self.running = running
        self._moment_file = moment_file
        self.hosts = {owner: HttpHost(running.stack.origin, name=f"{owner}-host", owner=api) for owner, api in running.contributors.items()}

    # --- processes

    def moment_set(self, name: str, signum: signal.Signals, *, group: bool = True) -> None:
        """The process that comes to this moment signals itself, once. `group`: with all that it started."""
        assert name in SERVER_MOMENTS
        moment_write(self._moment_file, name, signum, group=group)

    def death_wait(self, process: str) -> None:
        wait_for(
            lambda: not self._moment_file.exists() and not self.running.process(process).is_alive,
            limit_seconds=LIMIT_SECONDS,
            what=lambda: f"the death of {process}\n{self.running.process(process).log_tail()}",
        )

    def passed_wait(self) -> None:
        """Returns when a process has come to the moment."""
        wait_for(lambda: not self._moment_file.exists(), limit_seconds=LIMIT_SECONDS, what=self._moment_file.read_text)

    def stopped_wait(self, process: str) -> None:
        """Returns when the process has come to the moment and stands still."""
        self.passed_wait()
        stat = Path(f"/proc/{self.running.process(process).pid}/stat")
        wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", limit_seconds=10, what=lambda: f"{process} to stand still")

    def signal(self, process: str, signum: signal.Signals) -> None:
        """To the process and all that it started."""
        os.killpg(self.running.process(process).pid, signum)

    @contextmanager
    def standing_still(self, process: str) -> Iterator[None]:
        self.signal(process, signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(process, signal.SIGCONT)

    def environment(self, process: str) -> dict[str, str]:
        """What the process was started with."""
        lines = Path(f"/proc/{self.running.process(process).pid}/environ").read_text().split("\0")
        return dict(line.split("=", 1) for line in lines if line)

    # --- jobs

    def job_submit(self, **changes: Any) -> str:
        return self.running.submit(TINY, **changes)

    def results_deliver(self, *owners: str, count: int) -> None:
        """Each of these owners' hosts takes `count` orders and delivers their results."""
        for owner in owners:
            host = self.hosts[owner]
            opened: list[OpenedOrder] = []
            while len(opened) < count:
                found = host.orders()
                assert found, f"expected {count} orders for {owner}; found {len(opened)}"
                opened += found
            for one in opened:
                assert host.deliver(host.result(one)).status == "recorded"

    def jobs_report(self, count: int = 2) -> list[str]:
        """Jobs with all their results in, and the dispatcher yet to look: it finds them in one batch when control goes on."""
        with self.standing_still("control"):
            job_ids = [self.job_submit() for _ in range(count)]
            self.results_deliver("ada", "emmy", count=count)
        return job_ids

    def database(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.running.services.postgres_dsn, autocommit=True)

    def jobs_wait(self, *job_ids: str) -> None:
        """Until all are completed."""
        for job_id in job_ids:
            self.running.job_wait(job_id, limit_seconds=LIMIT_SECONDS)

    # --- what must hold

    def expect_books_right(self) -> None:
        """Every job is concluded once, each accepted replica was paid once what it says, nothing is in escrow, and nothing waits."""
        wait_for(lambda: not self._faults(), limit_seconds=20, what=lambda: "\n".join(self._faults()))

    def _faults(self) -> list[str]:
        with self.database() as database:
            rows = database.execute("SELECT count(*) FROM jobs_job").fetchall()
            faults = books_faults(self.running, database, jobs=int(rows[0][0]))
            for name, query in _NOTHING.items():
                faults += [f"expected no {name}, found {row}" for row in database.execute(query).fetchall()]
        return faults

    def audits_pass(self) -> None:
        """The commands that look at the whole ledger, from inside and from outside, as far as this version has them."""
        for command in self._audits():
            done = subprocess.run(command, cwd=CHECKOUT, env=self._owner_environment(), capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"

    def _audits(self) -> list[list[str]]:
        found = []
        if (CHECKOUT / "ledger" / "management" / "commands" / "ledger_verify.py").exists():
            found.append([sys.executable, "manage.py", "ledger_verify"])
        has_audit = subprocess.run([HOST_BIN / "nexa", "audit", "--help"], capture_output=True, check=False).returncode == 0
        if has_audit:
            key_id = self.running.stack.coordinator_key_id
            found.append([str(HOST_BIN / "nexa"), "audit", self.running.stack.origin, "--coordinator", key_id])
        return found

    def _owner_environment(self) -> Mapping[str, str]:
        state = {"XDG_STATE_HOME": str(self.running.folder / "state")}
        return {**self.environment("conclude"), "NEXA_DATABASE_URL": self.running.services.postgres_dsn, **state}

    def batches_forgotten_wait(self) -> None:
        """Until no batch is left: that of a lost chord goes when its time is over, also if no receipt comes any more."""

        def left() -> list[tuple[Any, ...]]:
            with self.database() as database:
                return database.execute("SELECT id, created_at FROM jobs_verificationbatch").fetchall()

        with self.database() as database:
            database.execute("UPDATE jobs_verificationbatch SET created_at = created_at - interval '30 days'")
        wait_for(lambda: not left(), limit_seconds=LIMIT_SECONDS, what=lambda: f"no batch to be left, found {left()}")


_NOTHING: Final = {
    "job that was concluded twice": "SELECT job_id, count(*) FROM jobs_jobevent WHERE kind IN ('job.completed', 'job.failed') GROUP BY 1"
    " HAVING count(*) <> 1",
    "replica that is still to be judged": "SELECT id, state FROM jobs_replica WHERE state IN ('queued', 'leased', 'running', 'reported')",
    "account whose balance is not the sum of its postings": "SELECT a.id, a.balance_micro, sum(p.amount_micro) FROM ledger_account a"
    " LEFT JOIN ledger_posting p ON p.account_id = a.id GROUP BY 1, 2 HAVING a.balance_micro <> coalesce(sum(p.amount_micro), 0)",
    "credits in escrow": "SELECT id, balance_micro FROM ledger_account WHERE kind = 'escrow' AND balance_micro <> 0",
    "check that was written twice": "SELECT replica_id, check_name, other_id, count(*) FROM jobs_evidence GROUP BY 1, 2, 3"
    " HAVING count(*) > 1",
    "accepted replica without checks that passed": "SELECT r.id, count(e.id) FROM jobs_replica r LEFT JOIN jobs_evidence e"
    " ON e.replica_id = r.id AND e.other_id IS NULL WHERE r.state = 'accepted' GROUP BY 1 HAVING count(e.id) = 0 OR NOT bool_and(e.passed)",
}
"""Queries that find nothing when all is well."""


@contextmanager
def coordinator_started(folder: Path) -> Iterator[Coordinator]:
    """Web, control, verify and conclude as in production, but for short times and the moments. At the end no batch is left."""
    moment_file = folder / "moment"
    settings = {
        **SETTINGS,
        "NEXA_LEASE_SECONDS": "60",
        "NEXA_DISPATCH_SECONDS": "0.3",
        "NEXA_CHECKPOINT_SECONDS": "0.3",
        "NEXA_VERIFY_CLAIM_SECONDS": str(CLAIM_SECONDS),
        MOMENT_VARIABLE: str(moment_file),
    }
    with coordinator_running(folder, images=IMAGES, owners=OWNERS, settings=settings, server_app="tests.faults.server_app") as running:
        yield Coordinator(running, moment_file)
