"""The portal's front page."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.http import require_GET

from jobs.live import overview
from jobs.selectors import jobs_decided_newest
from jobs.views.rows import job_rows
from ledger.selectors import totals

NEWEST_JOBS: Final = 8
STEPS: Final = (
    ("submitted", "A researcher names an image, inputs and a tolerance. The image is pinned by digest, the worst cost reserved."),
    ("leased", "Hosts of different owners each lease one copy over signed HTTPS. The order that they get is signed too."),
    ("run", "It runs in a container without network. Every line of output joins a hash-chained log."),
    ("signed", "The host signs a receipt: order, log and every output file, by digest, with its own key."),
    ("verified", "The coordinator checks signatures and digests, then compares the results number by number."),
    ("credited", "Those who agree are paid into a public, append-only ledger under a signed checkpoint."),
)


@require_GET
def favicon(request: HttpRequest) -> HttpResponse:
    """Where the mark is, for pages that name no icon: the moderators', and files that a browser shows by itself."""
    return redirect(static("portal/mark.svg"))


@require_GET
def home_page(request: HttpRequest) -> HttpResponse:
    """What this is, what it does now, what it did last, and the two ways in. No names, no labels: it is public."""
    tiers = overview.tiers.get()
    context = {
        "status": overview.portal.get(),
        "tiers": tiers,
        "waiting": sum(tier.waiting for tier in tiers),
        "online": sum(tier.online for tier in tiers),
        "registered": sum(tier.registered for tier in tiers),
        "totals": totals(),
        "rows": job_rows(jobs_decided_newest(limit=NEWEST_JOBS), names_shown=False),
        "steps": STEPS,
        "origin": settings.NEXA_ORIGIN,
    }
    return render(request, "portal/home.html", context)
