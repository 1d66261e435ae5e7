"""Replicas side by side, and the events that name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs import answers, selectors
from jobs.evidence.custody import Mark, replica_line
from jobs.evidence.deviations import letter_of
from jobs.evidence.files import EvidenceName, evidence_names
from jobs.hosting.standing import machine_parts
from jobs.models import Job, JobEvent, Replica
from jobs.states import ReplicaState
from ledger.models import LogLeaf


@dataclass(frozen=True)
class Usage:
    """What one run used, as its receipt says."""

    wall_seconds: float
    cpu_seconds: float
    memory_peak_bytes: int


@dataclass(frozen=True)
class ReplicaColumn:
    """One replica beside the others. `answer.result` is None while the job is open; `entry` is the index of its payment in the log.

    `machine` is what its host says it is, `usage` what its receipt says, None while that is hidden; `files` the evidence to be had.
    """

    answer: answers.ReplicaAnswer
    letter: str
    custody: list[Mark]
    node_key_id: str
    machine: list[str]
    usage: Usage | None
    files: list[EvidenceName]
    is_canonical: bool
    entry: int | None

    @property
    def progress_percent(self) -> int | None:
        """Of the host's newest report; None when it said nothing about it, or is done."""
        report = self.answer.progress
        is_live = self.answer.state in (ReplicaState.LEASED, ReplicaState.RUNNING)
        return round(100 * report.progress) if report and report.progress is not None and is_live else None

    @property
    def is_to_be_logged(self) -> bool:
        """Whether it was paid and the payment is not in the log yet."""
        return self.entry is None and self.answer.result is not None and int(self.answer.result.paid_micro) > 0

    @property
    def has_log(self) -> bool:
        return EvidenceName.LOG in self.files


@dataclass(frozen=True)
class EventRow:
    """An event of the timeline and the node that it is about; empty where there is none."""

    event: JobEvent
    node_name: str
    node_key_id: str


def replica_columns(job: Job, replicas: Sequence[Replica], ran_at: dict[UUID, datetime]) -> list[ReplicaColumn]:
    """One statement. `replicas`: those that may be shown, as `selectors.replicas_of` has them."""
    concluded = selectors.is_concluded(job)
    entries = _payment_leaves(replicas) if concluded else {}
    columns = []
    for number, replica in enumerate(replicas):
        answer = answers.replica_of(replica, job=job)
        received_at = replica.receipt.received_at if not selectors.is_veiled(job) and hasattr(replica, "receipt") else None
        times = [replica.created_at, replica.leased_at, ran_at.get(replica.pk), received_at]
        files = evidence_names(replica, job=job)
        columns.append(
            ReplicaColumn(
                answer=answer,
                letter=letter_of(number),
                custody=replica_line(state=answer.state, is_leased=replica.leased_at is not None, times=times),
                node_key_id=replica.node_key_id or "",
                machine=_machine_of(replica.node.profile) if replica.node else [],
                usage=_usage_of(replica.receipt.predicate) if EvidenceName.RECEIPT in files else None,
                files=files,
                is_canonical=concluded and replica.pk == job.canonical_replica_id,
                entry=entries.get(replica.pk),
            )
        )
    return columns


def event_rows(events: Sequence[JobEvent], replicas: Sequence[Replica]) -> list[EventRow]:
    """The timeline, with the nodes of those replicas."""
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


def _machine_of(profile: dict[str, Any]) -> list[str]:
    """What the host says it is, in a few words each. A claim."""
    return [words for words in (str(profile.get("cpu_model", "")), *machine_parts(profile)) if words]


def _usage_of(predicate: dict[str, Any]) -> Usage:
    usage = predicate["usage"]
    return Usage(float(usage["wall_seconds"]), float(usage["cpu_seconds"]), int(usage["memory_peak_bytes"]))
