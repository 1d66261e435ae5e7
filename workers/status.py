"""How a node is doing, as its home tells: what runs, what is still owed, why there is no work, whether the portal answers.

Works beside a running worker and without one; changes nothing. `nexa status --json` prints it as it stands here.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict

from workers.caps import Caps, NodeSettings
from workers.home import HomeLockedError, NodeHome
from workers.intent import IntentKind
from workers.intent_file import intent_read
from workers.journal import Fact, Journal, LeaseRow
from workers.portal import PortalClient, PortalError
from workers.protocol.messages.exchange import NoWork, Stage
from workers.protocol.validation import ProtocolUnsupportedError
from workers.runtime.output_watch import folder_measure
from workers.versions import protocol_gap

RECENT_LEASES = 5
WORKER_SILENCE_SECONDS = 120.0
"""A worker that has neither heard from the portal nor failed to for so long is stuck; an exchange takes 40 s at most."""


class _Status(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeaseStatus(_Status):
    """One lease that is not over. `progress`: 0 to 1 of its stage, None when unknown; `sent_bytes` of `owed_bytes` count once it ran."""

    lease_id: str
    job_type: str
    image: str
    stage: Stage
    progress: float | None
    message: str
    accepted_at: AwareDatetime
    sent_bytes: int
    owed_bytes: int


class EndedLease(_Status):
    """One that is. `portal`: what became of its receipt."""

    lease_id: str
    job_type: str
    image: str
    ended_at: AwareDatetime | None
    outcome: str
    portal: str


class PortalStatus(_Status):
    """Whether the portal answers: by the worker's last exchange at `at`, or asked just now when none runs. `trouble`: why not.

    `speaks_ours`: whether it speaks this host's version of the protocol, as far as is known.
    """

    answers: bool
    at: AwareDatetime | None
    trouble: str = ""
    speaks_ours: bool = True


class Lent(_Status):
    """What this node may use of the machine at most; `gpus` by uuid."""

    slots: int
    cpus: float
    memory_bytes: int
    disk_bytes: int
    gpus: tuple[str, ...]


class DiskStatus(_Status):
    """Of the disk under the node home."""

    free_bytes: int
    work_bytes: int
    cache_bytes: int


class NodeStatus(_Status):
    """`state`: what the worker last said of itself. `no_work`: the reason in one, the host's own (`held_by_host`) or the portal's.

    `dismissed`: why the portal sent the last worker away for good; empty while it did not. `upgrade`: why other host software is wanted,
    and what to do; empty while none is.
    """

    name: str
    owner: str
    portal_origin: str
    node_id: str
    tier: str
    queues: tuple[str, ...]
    worker_running: bool
    state: str
    dismissed: str
    told: IntentKind
    told_until: AwareDatetime | None
    portal: PortalStatus
    upgrade: str
    no_work: NoWork | None
    held_by_host: bool
    leases: tuple[LeaseStatus, ...]
    ended: tuple[EndedLease, ...]
    lent: Lent
    disk: DiskStatus

    def worker_silent(self, now: datetime) -> bool:
        """Whether no worker does its work here: none runs, or it has not tried to reach the portal for too long."""
        return not self.worker_running or self.portal.at is None or (now - self.portal.at).total_seconds() > WORKER_SILENCE_SECONDS


def status_read(home: NodeHome) -> NodeStatus:
    """Raises HomeError, JournalError. Asks the portal only when no worker runs, for at most half a minute."""
    identity = home.identity()
    running = worker_runs(home)
    now = datetime.now(UTC)
    intent = intent_read(home.folder)
    caps = Caps.of(NodeSettings.read(home.settings_path), home.profile())
    hold = no_work = None
    state, dismissed, upgrade, leases, ended = "", "", "", [], []
    portal = PortalStatus(answers=False, at=None)
    # A node that has never worked has no journal yet.
    if home.journal_path.exists():
        journal = Journal.read_only(home.journal_path)
        try:
            hold, no_work = (_reason(journal.fact(fact)) for fact in (Fact.HOLD, Fact.NO_WORK))
            state, dismissed, upgrade = (journal.fact(fact) or "" for fact in (Fact.STATE, Fact.DISMISSED, Fact.UPGRADE))
            portal = _portal_heard(journal)
            leases = [_lease(row, journal) for row in journal.leases_open()]
            ended = [_ended(row) for row in journal.leases_ended(RECENT_LEASES)]
        finally:
            journal.close()
    if not running:
        portal, upgrade = _portal_ask(identity.portal)
    return NodeStatus(
        name=identity.name,
        owner=identity.owner,
        portal_origin=identity.portal,
        node_id=str(identity.node_id),
        tier=identity.tier,
        queues=identity.queues,
        worker_running=running,
        state=(state or "starting") if running else "stopped",
        dismissed=dismissed if not running else "",
        told=intent.kind_at(now),
        told_until=intent.until if intent.kind_at(now) is intent.kind else None,
        portal=portal,
        upgrade=upgrade,
        no_work=(hold or no_work) if running else None,
        held_by_host=running and hold is not None,
        leases=tuple(leases),
        ended=tuple(ended),
        lent=Lent(
            slots=caps.slots,
            cpus=caps.cpus,
            memory_bytes=caps.memory_bytes,
            disk_bytes=caps.disk_bytes,
            gpus=tuple(gpu.uuid for gpu in caps.gpus),
        ),
        disk=DiskStatus(
            free_bytes=shutil.disk_usage(home.folder).free,
            work_bytes=_folder_bytes(home.work_folder),
            cache_bytes=_folder_bytes(home.cache_folder),
        ),
    )


def worker_runs(home: NodeHome) -> bool:
    """Whether a worker holds this home now. Raises HomeMissingError."""
    try:
        home.lock().release()
    except HomeLockedError:
        return True
    return False


def _lease(row: LeaseRow, journal: Journal) -> LeaseStatus:
    uploads = journal.uploads(row.lease_id)
    sent, owed = sum(upload.offset_bytes for upload in uploads), sum(upload.size_bytes for upload in uploads)
    return LeaseStatus(
        lease_id=str(row.lease_id),
        job_type=row.job_type,
        image=row.image,
        stage=row.stage,
        progress=sent / owed if owed else row.progress,
        message=row.message,
        accepted_at=row.accepted_at,
        sent_bytes=sent,
        owed_bytes=owed,
    )


def _ended(row: LeaseRow) -> EndedLease:
    return EndedLease(
        lease_id=str(row.lease_id),
        job_type=row.job_type,
        image=row.image,
        ended_at=row.ended_at,
        outcome=row.failure or "completed",
        portal=row.ending or "",
    )


def _reason(fact: str | None) -> NoWork | None:
    code, found, message = (fact or "").partition(": ")
    return NoWork(code=code, message=message) if found else None


def _portal_heard(journal: Journal) -> PortalStatus:
    told = journal.fact(Fact.PORTAL)
    answers = told == "ok"
    return PortalStatus(
        answers=answers,
        at=journal.fact_noted_at(Fact.PORTAL),
        trouble="" if answers else told or "",
        speaks_ours=not (told or "").startswith(f"{ProtocolUnsupportedError.code}: "),
    )


def _portal_ask(origin: str) -> tuple[PortalStatus, str]:
    """How it is now, and why this software would have to be another. What was recommended is only known to a worker."""
    portal = PortalClient(origin, None)
    try:
        gap = protocol_gap(portal.coordinator().protocol_versions)
    except PortalError as error:
        return PortalStatus(answers=False, at=datetime.now(UTC), trouble=str(error)), ""
    finally:
        portal.close()
    return PortalStatus(answers=True, at=datetime.now(UTC), speaks_ours=gap is None), str(gap or "")


def _folder_bytes(folder: Path) -> int:
    return folder_measure(folder, entries_max=10**6).allocated_bytes
