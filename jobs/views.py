"""Pages of jobs, for their signed-in owner. What is another's is answered like what isn't there, as in the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from jobs import answers, selectors
from jobs.custody import Mark, Progress, job_line, replica_line, verdict_sentence
from jobs.models import Job, JobEvent, Replica
from jobs.states import JOB_OPEN, REPLICA_VOTES, JobState, ReplicaState
from ledger.coordinator_key import coordinator_public_key
from ledger.models import LogLeaf
from people.models import User

PAGE_JOBS: Final = 50
PAGE_EVENTS: Final = 500
_RECEIPT_COUNTS = [state.value for state in REPLICA_VOTES]


@dataclass(frozen=True)
class JobRow:
    """A job in a list, with its state as it may be shown, its custody and its verdict in words."""

    job: Job
    state: JobState
    custody: list[Mark]
    sentence: str


@dataclass(frozen=True)
class ReplicaColumn:
    """One replica beside the others. `answer.result` is None while the job is open; `entry` is the index of its payment in the log."""

    answer: answers.ReplicaAnswer
    custody: list[Mark]
    node_key_id: str
    is_canonical: bool
    entry: int | None

    @property
    def progress_percent(self) -> int | None:
        """Of the host's newest report; None when it said nothing about it, or is done."""
        report = self.answer.progress
        is_live = self.answer.state in (ReplicaState.LEASED, ReplicaState.RUNNING)
        return round(100 * report.progress) if report and report.progress is not None and is_live else None


@dataclass(frozen=True)
class EventRow:
    """An event of the timeline and the node that it is about; empty where there is none."""

    event: JobEvent
    node_name: str
    node_key_id: str


@require_GET
@never_cache
@login_required
def jobs_page(request: HttpRequest) -> HttpResponse:
    """The caller's newest jobs, by state if one is asked for. Older ones follow behind `before`, a job's id."""
    owner = user_of_page(request)
    state = request.GET.get("state", "")
    wanted = JobState(state) if state in set(JobState) else None
    jobs = selectors.jobs_of(owner=owner, state=wanted, before=_before(owner, request.GET.get("before", "")), limit=PAGE_JOBS + 1)
    page = jobs[:PAGE_JOBS]
    context = {
        "rows": job_rows(page, names_shown=True),
        "next": page[-1].pk if len(jobs) > PAGE_JOBS else None,
        "states": list(JobState),
        "wanted": wanted,
        "login_command": f"nexa login {settings.NEXA_ORIGIN}",
    }
    return render(request, "jobs/list.html", context)


@require_GET
@never_cache
@login_required
def job_page(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """One job of the caller, whole."""
    return render(request, "jobs/job.html", _job_context(request, job_id))


@require_GET
@never_cache
@login_required
def job_fragment(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The part of a job's page that changes; the page fetches it again when something happened."""
    return render(request, "jobs/_live.html", _job_context(request, job_id))


def job_rows(jobs: Sequence[Job], *, names_shown: bool) -> list[JobRow]:
    """Rows of a list: two more statements, however many jobs."""
    states = selectors.states_shown(jobs)
    unveiled = [job.pk for job in jobs if not selectors.is_veiled(job)]
    counted = (
        Replica.objects.filter(job__in=unveiled)
        .values("job")
        .annotate(
            leased=Count("pk", filter=Q(leased_at__isnull=False)),
            receipts=Count("receipt", filter=Q(state__in=_RECEIPT_COUNTS)),
        )
    )
    progress = {row["job"]: Progress(leased=row["leased"], receipts=row["receipts"]) for row in counted} if unveiled else {}
    return [
        JobRow(
            job=job,
            state=states[job.pk],
            custody=job_line(
                state=states[job.pk], quorum=job.quorum, progress=progress.get(job.pk) or _progress_shown(job, states[job.pk])
            ),
            sentence=_sentence(job, states[job.pk], names_shown=names_shown),
        )
        for job in jobs
    ]


def _progress_shown(job: Job, state: JobState) -> Progress:
    """Of a veiled job: taken or not."""
    return Progress(leased=int(selectors.is_veiled(job) and state != JobState.QUEUED))


def _job_context(request: HttpRequest, job_id: UUID) -> dict[str, Any]:
    job = selectors.job_of(owner=user_of_page(request), job_id=job_id)
    if job is None:
        raise Http404("You have no job with this id.")
    inputs = selectors.inputs_of(job=job)
    replicas = selectors.replicas_of(job=job)
    events = selectors.events_of(job=job, after=0, limit=PAGE_EVENTS)
    concluded = selectors.is_concluded(job)
    ran_at = _running_times(events)
    detail = answers.detail_of(job, inputs)
    return {
        "job": job,
        "detail": detail,
        "is_open": JobState(job.state) in JOB_OPEN,
        "is_concluded": concluded,
        "is_veiled": selectors.is_veiled(job),
        "has_bundle": job.state == JobState.COMPLETED,
        "sentence": _sentence(job, detail.state, names_shown=True),
        "custody": _custody(job, detail, replicas, ran_at),
        "columns": _columns(job, replicas, ran_at, concluded=concluded),
        "paid_micro": sum(replica.paid_micro for replica in replicas) if concluded else None,
        "events": _event_rows(events, replicas),
        "coordinator_key_id": coordinator_public_key().key_id,
        "now": timezone.now(),
    }


def _custody(job: Job, detail: answers.JobDetail, replicas: Sequence[Replica], ran_at: dict[UUID, datetime]) -> list[Mark]:
    """The job's line with times and evidence; of a veiled one only that it was taken."""
    copies = f"{detail.copies} {_plural('copy', 'copies', detail.copies)}, {detail.quorum} must agree"
    leased = [replica.leased_at for replica in replicas if replica.leased_at]
    if selectors.is_veiled(job):
        times = [job.submitted_at, min(leased, default=None)]
        return job_line(state=detail.state, quorum=detail.quorum, progress=_progress_shown(job, detail.state), times=times, notes=[copies])
    received = sorted(replica.receipt.received_at for replica in replicas if replica.state in REPLICA_VOTES and hasattr(replica, "receipt"))
    completed = job.state == JobState.COMPLETED
    paid = [replica for replica in replicas if replica.paid_micro]
    notes = [
        copies,
        f"{len(leased)} {_plural('lease', 'leases', len(leased))}" if leased else "",
        f"{len(ran_at)} started" if ran_at else "",
        f"{len(received)} {_plural('receipt', 'receipts', len(received))}" if received else "",
        f"{(job.verdict_summary or {}).get('agreeing', 0)} agree" if completed else "",
        f"{len(paid)} {_plural('payment', 'payments', len(paid))}" if completed else "",
    ]
    ended_at = job.concluded_at
    return job_line(
        state=JobState(job.state),
        quorum=job.quorum,
        progress=Progress(leased=len(leased), receipts=len(received)),
        times=[job.submitted_at, min(leased, default=None), min(ran_at.values(), default=None), *received[-1:], *[ended_at] * 2]
        if received
        else [job.submitted_at, min(leased, default=None), min(ran_at.values(), default=ended_at)],
        notes=notes,
    )


def _columns(job: Job, replicas: Sequence[Replica], ran_at: dict[UUID, datetime], *, concluded: bool) -> list[ReplicaColumn]:
    entries = _payment_leaves(replicas) if concluded else {}
    columns = []
    for replica in replicas:
        answer = answers.replica_of(replica, job=job)
        received_at = replica.receipt.received_at if not selectors.is_veiled(job) and hasattr(replica, "receipt") else None
        times = [replica.created_at, replica.leased_at, ran_at.get(replica.pk), received_at]
        columns.append(
            ReplicaColumn(
                answer=answer,
                custody=replica_line(state=answer.state, is_leased=replica.leased_at is not None, times=times),
                node_key_id=replica.node_key_id or "",
                is_canonical=concluded and replica.pk == job.canonical_replica_id,
                entry=entries.get(replica.pk),
            )
        )
    return columns


def _event_rows(events: Sequence[JobEvent], replicas: Sequence[Replica]) -> list[EventRow]:
    nodes = {replica.pk: replica.node for replica in replicas}
    rows = []
    for event in events:
        node = nodes.get(event.replica_id) if event.replica_id else None
        rows.append(EventRow(event, node.name if node else "", node.key_id if node else ""))
    return rows


def _payment_leaves(replicas: Sequence[Replica]) -> dict[UUID, int]:
    """The place in the public log of each replica's payment, as far as it is in there yet."""
    keys = {f"payment:{replica.pk}": replica.pk for replica in replicas if replica.paid_micro}
    found = LogLeaf.objects.filter(item__key__in=keys).values_list("item__key", "index")
    return {keys[key]: index for key, index in found}


def _running_times(events: Sequence[JobEvent]) -> dict[UUID, datetime]:
    return {event.replica_id: event.created_at for event in events if event.kind == "replica.running" and event.replica_id}


def _sentence(job: Job, state: JobState, *, names_shown: bool) -> str:
    """`state`: as it may be shown."""
    return verdict_sentence(
        state=state,
        quorum=selectors.copies_shown(job).quorum,
        summary=job.verdict_summary,
        failure_message=job.failure_message,
        names_shown=names_shown,
    )


def _before(owner: User, text: str) -> tuple[datetime, UUID] | None:
    """The key of the job that the page before ended with; a strange one starts at the newest."""
    try:
        job = selectors.job_of(owner=owner, job_id=UUID(text))
    except ValueError:
        return None
    return (job.submitted_at, job.pk) if job else None


def _plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def user_of_page(request: HttpRequest) -> User:
    user = request.user
    if not isinstance(user, User):
        raise TypeError("a page without login_required asked for the user")
    return user
