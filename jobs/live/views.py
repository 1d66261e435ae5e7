"""The live dashboard and the part of it that changes: made once for all viewers."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from jobs.live import figures
from jobs.live.sharing import Shared

NOW_SECONDS: Final = 0.5
HISTORY_SECONDS: Final = 10.0
"""The charts end a minute ago at best; reading an hour twice a second would show nothing more."""


@require_GET
@never_cache
def live_page(request: HttpRequest) -> HttpResponse:
    """Fleet, queues, conclusions and newest events. Public: nothing of it says whose."""
    return render(request, "jobs/live.html", {"fragment": fragment.get()})


@require_GET
@never_cache
def live_fragment(request: HttpRequest) -> HttpResponse:
    """The part that changes; the page fetches it again when its socket says that something happened."""
    return HttpResponse(fragment.get())


def _fragment() -> str:
    tiers, hour = figures.tiers_now(), history.get()
    depths = {now.tier: hour.depths_of(now) for now in tiers}
    context = {
        "now": timezone.now(),
        "tiers": [{"now": now, "waits": hour.waits.get(now.tier, figures.Percentiles()), "depths": depths[now.tier]} for now in tiers],
        "depth_top": max(value or 0 for points in depths.values() for _, value in points),
        "hour": hour,
        "happenings": figures.happenings(),
        "waiting": sum(now.waiting for now in tiers),
        "online": sum(now.online for now in tiers),
        "registered": sum(now.registered for now in tiers),
    }
    return render_to_string("jobs/_dashboard.html", context)


history: Final = Shared(lambda: figures.history(now=timezone.now()), seconds=HISTORY_SECONDS)
fragment: Final = Shared(_fragment, seconds=NOW_SECONDS)
