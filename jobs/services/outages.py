"""The clock of leases: time in which the portal was away does not count against anybody's lease.

Hosts renew by exchanges, so a host can be blamed for silence only while the portal could be heard. Every web process records that it is
alive, whether or not a host calls: a thread of its own does so (jobs/gateway/liveness.py), and each exchange before it renews, so that the
first one after a gap finds it credited. When the record resumes after a gap, every live lease gets the gap's length back, and no less
than a whole lease from then on, since hosts wait longer between tries the longer nobody answers; while it is silent, nothing expires but
what is past its order's absolute deadline. A portal that serves but has lost all of its hosts expires their
leases in time.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest

from jobs.models import CoordinatorClock, Replica
from jobs.states import REPLICA_LIVE

log = logging.getLogger(__name__)


def silence_permitted() -> timedelta:
    """How long no web process may record that it is alive before it counts as an outage: half a lease."""
    return timedelta(seconds=settings.NEXA_LEASE_SECONDS / 2)


def portal_alive_record(*, now: datetime) -> timedelta:
    """Records that the portal serves, and credits the time before, if that was an outage, to every live lease.

    Returns what was credited. Call it before leases are renewed or expired, at least every half of `silence_permitted`.
    """
    with transaction.atomic():
        clock, created = CoordinatorClock.objects.select_for_update().get_or_create(pk=1, defaults={"alive_at": now})
        gap = now - clock.alive_at
        if created or gap <= timedelta(0):
            return timedelta(0)
        was_away = gap > silence_permitted()
        clock.alive_at, clock.heard_since = now, now if was_away else clock.heard_since
        clock.save(update_fields=["alive_at", "heard_since"])
        if not was_away:
            return timedelta(0)
        whole = now + timedelta(seconds=settings.NEXA_LEASE_SECONDS)
        until = Greatest(F("lease_expires_at") + gap, Value(whole))
        live = Replica.objects.filter(state__in=REPLICA_LIVE)
        # In the order in which renewals lock them, of which there are many when the portal is back.
        list(live.select_for_update(no_key=True).order_by("pk").values_list("pk"))
        credited = live.update(lease_expires_at=until)
    log.warning("the portal was away for %.1f s; %d live leases were extended by that or begin anew", gap.total_seconds(), credited)
    return gap


def expiry_horizon(*, now: datetime) -> datetime:
    """Leases that expired up to this moment may be expired: `now`, or the end of what is known of a portal that fell silent."""
    clock = CoordinatorClock.objects.filter(pk=1).first()
    return now if clock is None else min(now, clock.alive_at + silence_permitted())


def was_heard(*, now: datetime, for_: timedelta) -> bool:
    """Whether, as far as is known, the portal serves `now` and could be heard for this long without an outage."""
    clock = CoordinatorClock.objects.filter(pk=1).first()
    if clock is None:
        return True
    return now - clock.alive_at <= silence_permitted() and (clock.heard_since is None or now - clock.heard_since >= for_)


def heard_since() -> datetime | None:
    """When the portal could be heard again after its last outage. None: there was none yet."""
    return CoordinatorClock.objects.filter(pk=1).values_list("heard_since", flat=True).first()
