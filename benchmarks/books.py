"""After a soak: do the books balance, and is anything left? Read from outside: the public ledger, the database, the hosts' folders."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import docker
import psycopg
from rich.console import Console
from rich.table import Table

from tests.acceptance.running_stack import RunningStack

_OPEN_REPLICAS: Final = ("queued", "leased", "running", "reported")

Database = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class Shape:
    """What the jobs came to."""

    jobs: Counter[str]
    """By state; of failed ones, with the code."""
    attempts: Counter[int]
    """Jobs by how many replicas they used beside those that they asked for."""
    replicas: Counter[str]
    """By state; of failed ones, with the code."""


def shape_read(database: Database) -> Shape:
    """As it is now."""
    jobs = database.execute("SELECT state, failure_code, count(*) FROM jobs_job GROUP BY 1, 2").fetchall()
    replicas = database.execute("SELECT state, failure_code, count(*) FROM jobs_replica GROUP BY 1, 2").fetchall()
    attempts = database.execute(
        "SELECT extra, count(*) FROM (SELECT count(*) - j.copies AS extra FROM jobs_job j JOIN jobs_replica r ON r.job_id = j.id"
        " GROUP BY j.id) counted GROUP BY 1"
    ).fetchall()
    return Shape(_named(jobs), Counter({int(extra): int(count) for extra, count in attempts}), _named(replicas))


def shape_print(shape: Shape, *, seconds: float, console: Console) -> None:
    """As one table."""
    table = Table(box=None, pad_edge=False, show_header=False)
    ended = shape.jobs.total()
    table.add_row("jobs", f"{ended} in {seconds:.0f} s: {ended / max(seconds, 1e-9):.2f} a second")
    table.add_row("jobs by end", _listed(shape.jobs))
    table.add_row("replicas by end", _listed(shape.replicas))
    table.add_row("jobs by attempts beyond their copies", _listed({str(extra): count for extra, count in sorted(shape.attempts.items())}))
    console.print(table)


def leftovers(running: RunningStack, database: Database) -> list[str]:
    """What should be gone and is not: open jobs and replicas, leases in journals, work folders, containers."""
    found = []
    for name, count in database.execute("SELECT state, count(*) FROM jobs_job WHERE concluded_at IS NULL GROUP BY 1").fetchall():
        found.append(f"expected every job to have ended, found {count} {name}")
    rows = database.execute("SELECT state, count(*) FROM jobs_replica WHERE state = ANY(%s) GROUP BY 1", [list(_OPEN_REPLICAS)])
    found += [f"expected every replica to have ended, found {count} {state}" for state, count in rows.fetchall()]
    for name, host in running.hosts.items():
        with closing(sqlite3.connect(f"{(host.home / 'journal.sqlite').as_uri()}?mode=ro", uri=True)) as journal:
            (leases,) = journal.execute("SELECT count(*) FROM lease WHERE ending IS NULL").fetchone()
        if leases:
            found.append(f"expected no open lease in the journal of {name}, found {leases}")
        if folders := len(list((host.home / "work").iterdir())):
            found.append(f"expected no work folder of {name}, found {folders}")
        if containers := len(_containers(running, name)):
            found.append(f"expected no container of {name}, found {containers}")
    return found


def books_faults(running: RunningStack, database: Database, *, jobs: int) -> list[str]:
    """What in jobs and ledger is not as it has to be. `jobs`: how many were submitted."""
    counts = database.execute("SELECT state, count(*) FROM jobs_job GROUP BY 1").fetchall()
    faults = [] if counts == [("completed", jobs)] else [f"expected {jobs} completed jobs, found {_listed(dict(counts))}"]
    without_quorum = database.execute(
        "SELECT count(*) FROM jobs_job j WHERE state = 'completed' AND j.quorum >"
        " (SELECT count(*) FROM jobs_replica r WHERE r.job_id = j.id AND r.state = 'accepted') HAVING count(*) > 0"
    ).fetchall()
    faults += [f"expected a quorum of accepted replicas in each completed job, found {count} without" for (count,) in without_quorum]
    entries = running.ledger_entries()
    known = database.execute("SELECT count(*) FROM ledger_entry").fetchall()
    if known != [(len(entries),)]:
        faults.append(f"expected the {known[0][0]} entries of the ledger in its public log, found {len(entries)}")
    accounts = [api.account() for api in (running.researcher, *running.contributors.values())]
    balances = {str(account["account_id"]): int(account["balance_micro"]) for account in accounts}
    (escrow,) = database.execute("SELECT id::text FROM ledger_account WHERE kind = 'escrow'").fetchall()
    paid = database.execute("SELECT id::text, coalesce(paid_micro, 0) FROM jobs_replica WHERE state = 'accepted'").fetchall()
    faults += balance_faults(entries, balances=balances, escrow=str(escrow[0]))
    faults += payment_faults(entries, paid_micro={str(replica): int(amount) for replica, amount in paid})
    return faults


def balance_faults(entries: Iterable[Mapping[str, Any]], *, balances: Mapping[str, int], escrow: str) -> list[str]:
    """Whether postings sum to zero, accounts hold what the public log says, and the escrow nothing. `balances`: by account, as told."""
    faults = []
    sums: Counter[str] = Counter()
    for entry in entries:
        amounts = [int(posting["amount_micro"]) for posting in entry["postings"]]
        if sum(amounts):
            faults.append(f"expected the postings of entry {entry['entry']} to sum to zero, found {sum(amounts)}")
        for posting, amount in zip(entry["postings"], amounts, strict=True):
            sums[posting["account"]] += amount
    for account, balance in {**balances, escrow: 0}.items():
        if sums[account] != balance:
            faults.append(f"expected a balance of {balance} for {account}, found {sums[account]} in the log")
    return faults


def payment_faults(entries: Iterable[Mapping[str, Any]], *, paid_micro: Mapping[str, int]) -> list[str]:
    """Whether each accepted replica was paid once, as much as it says, and nothing else was. `paid_micro`: by replica."""
    paid = Counter(
        (str(entry["evidence"]["replica"]), max(int(posting["amount_micro"]) for posting in entry["postings"]))
        for entry in entries
        if entry["kind"] == "payment"
    )
    owed = Counter(paid_micro.items())
    if owed == paid:
        return []
    missing, surplus = (owed - paid).total(), (paid - owed).total()
    return [f"expected one payment for each of {owed.total()} accepted replicas, found {missing} missing and {surplus} too many"]


def _containers(running: RunningStack, name: str) -> list[dict[str, Any]]:
    client = docker.APIClient(base_url=running.hosts[name].environment["DOCKER_HOST"], timeout=20, version="auto")
    try:
        found: list[dict[str, Any]] = client.containers(all=True, filters={"label": f"nexapod.home={running.node_id(name)}"})
    finally:
        client.close()
    return found


def _named(rows: Iterable[tuple[Any, ...]]) -> Counter[str]:
    return Counter({f"{state} ({code})" if code else str(state): int(count) for state, code, count in rows})


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
