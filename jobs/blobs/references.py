"""What refers to blobs, and how long each reference wants the bytes: the one place that lists it.

1. The inputs of a job, and the archive and the log of an accepted result, are wanted until NEXA_RESULT_DAYS after its conclusion, and for
   as long as its owner keeps the job.
2. Of other replicas (rejected, failed, late) they are wanted until NEXA_REJECTED_DAYS after the conclusion, or after the receipt came.
3. A finished upload wants its bytes while its row is there; uploads_sweep removes it.
4. A receipt itself, its envelope, is a row of its own and of the ledger's log: nothing of this touches it. When the bytes of a blob are
   gone its row stays while an input or a receipt names it, with digest and size.
5. Of the jobs of a person who was erased nothing is wanted.

A blob is wanted if any reference wants it. tests/jobs/blobs/test_references.py fails when a column that names blobs is not listed here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Final

from django.conf import settings
from django.db.models import Exists, Model, OuterRef, Q, QuerySet, Sum

from jobs.models import Blob, Job, JobInput, Receipt, Upload
from jobs.states import ReplicaState
from people.models import User


@dataclass(frozen=True)
class BlobReference:
    """A column that holds digests of blobs. `owner`: the path to the person for whom the bytes are kept. `counts`: from when on they count
    as that person's.

    `holds_row`: it is a foreign key, so the row of the blob stays while it is there, wanted or not.
    """

    model: type[Model]
    column: str
    owner: str
    holds_row: bool
    wanted: Callable[[datetime], Q]
    counts: Q = field(default_factory=Q)

    def rows(self) -> QuerySet[Any]:
        """The rows that refer to the blob of an outer query."""
        return self.model._default_manager.filter(**{self.column: OuterRef("pk")})


def _of_input(now: datetime) -> Q:
    lasting = Q(job__concluded_at=None) | Q(job__is_kept=True) | _lasting("job__concluded_at", settings.NEXA_RESULT_DAYS, now)
    return lasting & Q(job__owner__erased_at=None)


def _of_result(now: datetime) -> Q:
    job = "replica__job__"
    accepted = Q(**{f"{job}is_kept": True}) | _lasting(f"{job}concluded_at", settings.NEXA_RESULT_DAYS, now)
    lasting = (
        Q(**{f"{job}concluded_at": None})
        | (Q(replica__state=ReplicaState.ACCEPTED) & accepted)
        | _lasting(f"{job}concluded_at", settings.NEXA_REJECTED_DAYS, now)
        | _lasting("received_at", settings.NEXA_REJECTED_DAYS, now)
    )
    return lasting & Q(**{f"{job}owner__erased_at": None})


def _lasting(column: str, days: int, now: datetime) -> Q:
    """Whether this happened at most so many days ago; of 0 days, always."""
    return Q(**{f"{column}__gt": now - timedelta(days=days)}) if days else Q(**{f"{column}__isnull": False})


_CONCLUDED: Final = Q(replica__job__concluded_at__isnull=False)
"""Before, the figure would tell the owner that a replica has delivered (jobs/evidence/disclosure.py)."""
_COMMITTED: Final = Q(committed_at__isnull=False)
"""Before, the digest is somebody's word: that there is a blob of it, somebody else's, is not told."""

REFERENCES: Final = (
    BlobReference(JobInput, "blob", owner="job__owner", holds_row=True, wanted=_of_input),
    BlobReference(Receipt, "archive", owner="replica__job__owner", holds_row=True, wanted=_of_result, counts=_CONCLUDED),
    BlobReference(Receipt, "log", owner="replica__job__owner", holds_row=True, wanted=_of_result, counts=_CONCLUDED),
    BlobReference(Upload, "digest", owner="user", holds_row=False, wanted=lambda _: _COMMITTED, counts=_COMMITTED),
)


def is_wanted(*, now: datetime) -> Q:
    """Of a query of blobs: those that something wants."""
    return reduce(or_, (Q(Exists(each.rows().filter(each.wanted(now)))) for each in REFERENCES))


def is_named() -> Q:
    """Of a query of blobs: those whose rows have to stay."""
    return reduce(or_, (Q(Exists(each.rows())) for each in REFERENCES if each.holds_row))


def result_kept_until(job: Job) -> datetime | None:
    """When the bytes of a concluded job's result may be removed; None: not while this is so. Not asked of open jobs."""
    if job.is_kept or not settings.NEXA_RESULT_DAYS or job.concluded_at is None:
        return None
    return job.concluded_at + timedelta(days=settings.NEXA_RESULT_DAYS)


def bytes_kept_for(user: User) -> int:
    """How many bytes are kept for a person, each blob once, and what they have announced and not yet sent.

    Of results, those of concluded jobs.
    """
    digests = [
        each.model._default_manager.filter(each.counts, **{each.owner: user.pk})
        .exclude(**{each.column: None})
        .values_list(each.column, flat=True)
        for each in REFERENCES
    ]
    blobs = Blob.objects.filter(removed_at=None, pk__in=digests[0].union(*digests[1:], all=True))
    unfinished = Upload.objects.filter(user=user, committed_at=None)
    return sum(query.aggregate(total=Sum("size_bytes"))["total"] or 0 for query in (blobs, unfinished))
