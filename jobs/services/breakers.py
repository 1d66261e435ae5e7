"""Circuit breakers of images: an image whose runs keep failing is given out no more for a while, and its jobs wait instead of failing.

1. Closed for a while (`closed`) is an image of which, without an accepted result in between, NEXA_BREAKER_FAILURES runs of the last
   NEXA_BREAKER_WINDOW_SECONDS failed by a fault of the job, at nodes of NEXA_BREAKER_OWNERS owners, in two jobs or more.
2. What the program does may be one researcher's doing. Only faults of the image itself close it on their own; others must come from jobs
   of two researchers, else one could close an image that others use. Jobs of the one fail by themselves soon enough.
3. It is closed for NEXA_BREAKER_SECONDS, and twice as long each time that follows without an accepted result in between, up to a day.
4. After that its jobs are given out again. One accepted result resets it; failures at nodes of OWNERS_AGAIN owners close it again, whoever
   the researchers if they are the image's own, else in jobs of two. One host or one researcher closes nothing, then as before.
5. A moderator may open it (`breaker_open`).

Matching gives out nothing of a kind whose `closed_until` is ahead. What runs already goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.contrib.postgres.functions import TransactionNow
from django.db import transaction

from jobs.faults import FAILURES, JOB_CODES, OF_THE_JOB, FaultClass
from jobs.models import ImageBreaker, Job, JobKind, Replica
from jobs.nudges import exchanges_wake
from jobs.states import ReplicaState
from people.errors import ActPointlessError
from people.models import User
from people.moderation.models import ActKind
from people.moderation.trail import act_record
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import FailureCode

CLOSED_SECONDS_MAX: Final = 86_400.0

JOBS_MIN: Final = 2
RESEARCHERS_MIN: Final = 2
OWNERS_AGAIN: Final = 2

_FAILURES_READ: Final = 200
"""The newest failures of an image that are looked at."""


def breakers_consider(failures: Sequence[tuple[Job, FailureCode]], *, now: datetime) -> None:
    """`breaker_consider` for each, last in the transaction that records them.

    Last, and in the order of the images: who waits for a breaker may hold jobs and accounts, who holds one waits for nothing but another.
    """
    for job, code in sorted(failures, key=lambda failure: str(failure[0].image["name"])):
        breaker_consider(job=job, code=code, now=now)


def breaker_consider(*, job: Job, code: FailureCode, now: datetime) -> ImageBreaker | None:
    """Closes the job's image if this failure, which is recorded already, is one too many. None: it isn't."""
    if FAILURES[code] not in OF_THE_JOB:
        return None
    image_name = str(job.image["name"])
    kinds = list(JobKind.objects.filter(image_name=image_name).values_list("pk", flat=True))
    breaker = ImageBreaker.objects.filter(image_name=image_name).first()
    if breaker is not None and breaker.closed_until > now:
        return None  # a run that was out when it was closed
    since = _success_last(kinds, now) or now - timedelta(days=2)
    if breaker is not None and breaker.closed_at > since:
        times, limit = breaker.times, _Limit(failures=OWNERS_AGAIN, owners=OWNERS_AGAIN, jobs=1)
        counted_since = breaker.closed_until
    else:
        times, limit = 0, _Limit(settings.NEXA_BREAKER_FAILURES, settings.NEXA_BREAKER_OWNERS, JOBS_MIN)
        counted_since = max(since, now - timedelta(seconds=settings.NEXA_BREAKER_WINDOW_SECONDS))
    if not _is_too_many(kinds, counted_since, limit):
        return None
    return _close(image_name, code, times=times + 1, now=now)


@transaction.atomic
def breaker_open(*, image_name: str, by: User, reason: str) -> None:
    """Opens an image's breaker and forgets how often it was closed. Waiting hosts look again.

    Raises ActPointlessError where it has none, and as people.moderation.trail.act_record.
    """
    breaker = ImageBreaker.objects.select_for_update().filter(image_name=image_name).first()
    if breaker is None:
        raise ActPointlessError("The image has no breaker any more: its jobs are given out.")
    act_record(by=by, kind=ActKind.BREAKER_OPENED, about=breaker, reason=reason, detail={"code": breaker.code})
    breaker.delete()
    # Not None: jobs whose queue deadline has passed meanwhile have some time from now on to be taken.
    JobKind.objects.filter(image_name=image_name).update(closed_until=TransactionNow())
    transaction.on_commit(lambda: exchanges_wake([tier.value for tier in Tier]))


def closed_until_of(*, image_name: str) -> datetime | None:
    """What a new kind of the image has to say about it."""
    return ImageBreaker.objects.filter(image_name=image_name).values_list("closed_until", flat=True).first()


def closed_seconds(*, times: int) -> float:
    """For how long an image is closed for the `times`-th time in a row."""
    return min(CLOSED_SECONDS_MAX, float(settings.NEXA_BREAKER_SECONDS) * 2.0 ** min(times - 1, 30))


def _success_last(kinds: list[int], now: datetime) -> datetime | None:
    accepted = Replica.objects.filter(kind__in=kinds, state=ReplicaState.ACCEPTED, concluded_at__gt=now - timedelta(days=2))
    return accepted.order_by("-concluded_at").values_list("concluded_at", flat=True).first()


@dataclass(frozen=True)
class _Limit:
    """So many failures close an image, at nodes of so many owners, in so many jobs."""

    failures: int
    owners: int
    jobs: int


def _is_too_many(kinds: list[int], since: datetime, limit: _Limit) -> bool:
    failed = Replica.objects.filter(kind__in=kinds, state=ReplicaState.FAILED, failure_code__in=JOB_CODES, concluded_at__gt=since)
    rows = list(failed.order_by("-concluded_at").values_list("failure_code", "node_owner", "job", "job__owner")[:_FAILURES_READ])
    of_image = [row for row in rows if FAILURES[FailureCode(row[0])] == FaultClass.IMAGE]
    return _suffice(of_image, limit, researchers=1) or _suffice(rows, limit, researchers=RESEARCHERS_MIN)


def _suffice(rows: Sequence[tuple[str, int | None, UUID, int]], limit: _Limit, *, researchers: int) -> bool:
    return (
        len(rows) >= limit.failures
        and len({owner for _, owner, _, _ in rows}) >= limit.owners
        and len({job for _, _, job, _ in rows}) >= limit.jobs
        and len({researcher for _, _, _, researcher in rows}) >= researchers
    )


def _close(image_name: str, code: FailureCode, *, times: int, now: datetime) -> ImageBreaker:
    until = now + timedelta(seconds=closed_seconds(times=times))
    values = {"closed_at": now, "closed_until": until, "times": min(times, 1000), "code": code.value}
    breaker, _ = ImageBreaker.objects.update_or_create(image_name=image_name, defaults=values)
    JobKind.objects.filter(image_name=image_name).update(closed_until=until)
    return breaker
