"""The page of the design system: every component of the portal, once, with invented content that says so."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from jobs.evidence.custody import line_of
from jobs.states import JobState
from nexaportal.charts import Point

SIZES: Final = tuple({"name": f"size-{place}", "px": px} for place, px in enumerate((13, 15, 18, 24, 36), start=1))
COLOURS: Final = (
    ("paper", "the page"),
    ("surface", "what lies on it"),
    ("ink", "text and the main action"),
    ("muted", "what comes second"),
    ("rule", "hairlines"),
    ("verified", "checked, agreed, online"),
    ("running", "under way"),
    ("waiting", "waits for somebody"),
    ("broken", "failed, disputed, refused"),
)
STATES: Final = (*(state.value for state in JobState), "agree", "disagree", "online", "silent", "paused", "quarantined", "revoked")
_NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)


@require_GET
def design_page(request: HttpRequest) -> HttpResponse:
    """Public, as the portal's code is. Reads nothing."""
    context = {
        "sizes": SIZES,
        "colours": COLOURS,
        "states": STATES,
        "lines": [
            line_of(reached=6, is_open=False, waits=False),
            line_of(reached=2, is_open=True, waits=False),
            line_of(reached=1, is_open=True, waits=True),
            line_of(reached=4, is_open=False, waits=False),
        ],
        "digest": "sha256:" + "7c12745e" * 8,
        "micro": 1_234_567_800,
        "moment": timezone.now() - timedelta(minutes=5),
        "series": [(meaning, _wave(turn)) for turn, meaning in enumerate(("verified", "running", "waiting", "broken"))],
    }
    return render(request, "portal/design.html", context)


def _wave(turn: int) -> list[Point]:
    """A curve with a gap."""
    return [
        (_NOON + timedelta(minutes=minute), None if 20 < minute < 24 else 50 + 40 * math.sin((minute + 12 * turn) / 9))
        for minute in range(60)
    ]
