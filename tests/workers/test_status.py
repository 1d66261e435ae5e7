"""`nexa status`: what a node's home tells, to people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tests.workers.portal_fake import FakePortal
from workers.cli import status
from workers.home import HomeLock, NodeHome
from workers.intent import Intent, IntentKind
from workers.intent_file import intent_write
from workers.journal import Fact, Journal, UploadRow
from workers.protocol.messages.exchange import Stage
from workers.protocol.messages.receipt import FailureCode
from workers.status import WORKER_SILENCE_SECONDS, NodeStatus, status_read
from workers.status_view import status_render


@pytest.fixture
def journal(home: NodeHome) -> Iterator[Journal]:
    journal = Journal.open(home.journal_path)
    yield journal
    journal.close()


@pytest.fixture
def running(home: NodeHome) -> Iterator[HomeLock]:
    """A worker, as far as anybody else can tell: somebody holds the home."""
    lock = home.lock()
    yield lock
    lock.release()


def invoke(home: NodeHome, *arguments: str) -> Result:
    return CliRunner().invoke(status, arguments, env={"NEXA_HOME": str(home.folder), "COLUMNS": "200"})


def shown(home: NodeHome) -> str:
    """As a wide terminal shows it, one space for many."""
    result = invoke(home)
    assert result.exit_code == 0, result.output
    return "\n".join(" ".join(line.split()) for line in result.output.splitlines())


def lease_add(journal: Journal, *, job_type: str = "folding", image: str = "registry.example.org/fold") -> UUID:
    lease_id = uuid4()
    journal.lease_add(
        lease_id=lease_id, replica_id=uuid4(), envelope=b"{}", order_digest="sha256:" + "0" * 64, job_type=job_type, image=image
    )
    return lease_id


def test_node_that_has_never_worked_is_shown_with_what_to_do(home: NodeHome, portal: FakePortal) -> None:
    text = shown(home)
    assert text.startswith(f"test node at {portal.origin}, tier cpu (queues: cpu)")
    assert "worker not running: start it with `nexa worker`, or its service" in text
    assert "portal answered 0 s ago" in text
    assert "lends 4 cores, 6.4 GiB of memory, 50.0 GiB of disk; 2 runs at once" in text
    assert "free; runs use 0 bytes, the cache 0 bytes" in text


def test_portal_that_is_away_is_named_with_its_trouble(home: NodeHome, portal: FakePortal) -> None:
    portal.outage = True
    assert "portal does not answer (tried 0 s ago)" in shown(home)


def test_runs_have_bars_and_uploads_are_counted(home: NodeHome, journal: Journal, running: HomeLock, tmp_path: Path) -> None:
    journal.fact_note(Fact.PORTAL, "ok")
    journal.fact_note(Fact.STATE, "working")
    first, second, third = lease_add(journal), lease_add(journal, job_type="annealing"), lease_add(journal)
    journal.lease_progress(first, stage=Stage.RUNNING, progress=0.42, message="heating")
    journal.lease_progress(second, stage=Stage.PULLING, progress=None, message="")
    uploads = [
        UploadRow(third, "sha256:" + digit * 64, size_bytes, tmp_path / digit, None, 0)
        for digit, size_bytes in (("1", 3 * 2**30), ("2", 2**30))
    ]
    journal.lease_finished(third, receipt=b"signed", failure=None, uploads=uploads)
    journal.upload_progress(third, uploads[0].digest, url="https://p/u", offset_bytes=2**30)
    text = shown(home)
    assert "worker working" in text
    assert "portal answered 0 s ago" in text
    assert "to report 1 result, 3.0 GiB still to send" in text
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("running") and "42 % folding" in line and line.endswith("heating")]
    assert [line for line in lines if line.startswith("pulling") and "? % annealing" in line]
    assert [line for line in lines if line.startswith("uploading") and "25 %" in line and line.endswith("1.0 GiB of 4.0 GiB")]
    assert "no work" not in text
    found = NodeStatus.model_validate_json(invoke(home, "--json").output)
    assert [(lease.progress, lease.sent_bytes, lease.owed_bytes) for lease in found.leases] == [
        (0.42, 0, 0),
        (None, 0, 0),
        (0.25, 2**30, 4 * 2**30),
    ]


def test_without_work_the_portals_reason_is_told_and_the_hosts_own_before_it(home: NodeHome, journal: Journal, running: HomeLock) -> None:
    assert "no work none has been asked for yet" in shown(home)
    journal.fact_note(Fact.PORTAL, "ok")
    journal.fact_note(Fact.NO_WORK, "no_jobs_queued: Nothing is queued: not yet.")
    assert "no work Nothing is queued: not yet. (no_jobs_queued)" in shown(home)
    journal.fact_note(Fact.HOLD, "on_battery: This host runs on battery.")
    assert "no work This host runs on battery. (on_battery)" in shown(home)
    lease_add(journal)
    assert "no more work This host runs on battery. (on_battery)" in shown(home)
    document = json.loads(invoke(home, "--json").output)
    assert document["no_work"] == {"code": "on_battery", "message": "This host runs on battery."}
    assert document["held_by_host"] is True


@pytest.mark.parametrize(
    ("kind", "stopped", "works"),
    [
        (IntentKind.DRAIN, "drained: stays stopped until `nexa resume`", "draining: finishes what it has, then stops"),
        (IntentKind.PAUSE, "not running, and paused", "paused by `nexa pause`"),
        (IntentKind.WORK, "not running: start it", "starting"),
    ],
)
def test_what_the_contributor_told_is_shown(home: NodeHome, journal: Journal, kind: IntentKind, stopped: str, works: str) -> None:
    intent_write(home.folder, Intent(kind=kind))
    assert f"worker {stopped}" in shown(home)
    lock = home.lock()
    try:
        assert f"worker {works}" in shown(home)
    finally:
        lock.release()


def test_node_that_the_portal_paused_is_pointed_there(home: NodeHome, journal: Journal, running: HomeLock) -> None:
    journal.fact_note(Fact.PORTAL, "ok")
    journal.fact_note(Fact.STATE, "paused")
    text = shown(home)
    assert "worker paused by the portal" in text
    assert "no work the portal gives this node none; its page there says why" in text


def test_pause_that_is_over_is_none(home: NodeHome, journal: Journal) -> None:
    intent_write(home.folder, Intent(kind=IntentKind.PAUSE, until=datetime.now(UTC) - timedelta(seconds=1)))
    found = status_read(home)
    assert (found.told, found.told_until) == (IntentKind.WORK, None)


def test_what_others_wrote_moves_no_cursor(home: NodeHome, journal: Journal, running: HomeLock) -> None:
    lease = lease_add(journal, job_type="[red]fold\x1b[2J", image="a\rb")
    journal.lease_progress(lease, stage=Stage.RUNNING, progress=0.5, message="\x1b]0;x\x07[bold]half")
    journal.fact_note(Fact.PORTAL, "gone\x1b[1A")
    text = shown(home)
    assert not [character for character in text if not character.isprintable() and character != "\n"]
    assert "[red]fold?[2J" in text
    assert "[bold]half" in text


def test_ended_leases_are_listed_with_what_became_of_them(home: NodeHome, journal: Journal) -> None:
    lease = lease_add(journal)
    journal.lease_finished(lease, receipt=b"signed", failure=FailureCode.LIMIT_MEMORY, uploads=[])
    journal.lease_ended(lease, "recorded")
    assert "folding registry.example.org/fold limit_memory recorded" in shown(home)


def test_check_tells_a_worker_that_works_from_one_that_is_stuck_or_gone(home: NodeHome, journal: Journal) -> None:
    journal.fact_note(Fact.PORTAL, "it is away, and that is not the worker's fault")
    assert invoke(home, "--check").exit_code == 1
    lock = home.lock()
    try:
        result = invoke(home, "--check")
        assert (result.exit_code, result.output) == (0, "")
        found = status_read(home)
        late = datetime.now(UTC) + timedelta(seconds=WORKER_SILENCE_SECONDS + 1)
        assert found.worker_silent(late)
    finally:
        lock.release()


def test_worker_that_fell_silent_is_pointed_at(home: NodeHome, journal: Journal, running: HomeLock) -> None:
    journal.fact_note(Fact.PORTAL, "ok")
    console = Console(width=200, record=True)
    console.print(status_render(status_read(home), now=datetime.now(UTC) + timedelta(hours=3)))
    assert "last answered 3 h 0 min ago, and the worker has not asked since: see its log" in console.export_text()
