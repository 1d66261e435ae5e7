"""How the pages show digests, credits, times and custody: the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from nexaportal.calendars import WorkedDay, calendar_svg
from nexaportal.charts import Point, line_chart_svg, number_short, scale_top
from nexaportal.glyphs import glyph_svg

register = template.Library()
_SPARK_STEP = 18
_TICK_STEP = 7
TICKS_MAX = 48
_STRIP_STEP = 9
STRIP_TICKS = 120
NONE = mark_safe('<span class="muted">\u2013</span>')
EVENT_WORDS = {
    "job.queued": "Submitted; the worst cost was reserved and the replicas queued.",
    "job.running": "A host is at work.",
    "job.verifying": "Receipts are in; the coordinator checks them.",
    "job.completed": "Concluded: enough replicas agree. The rest of the reservation went back.",
    "job.failed": "Concluded without a result. The reservation went back.",
    "job.disputed": "The replicas do not agree; a moderator looks at them.",
    "job.cancelled": "Cancelled. The reservation went back.",
    "job.replicas_added": "Verification asked for more replicas.",
    "replica.queued": "Queued.",
    "replica.leased": "Leased; the order was signed.",
    "replica.running": "Started.",
    "replica.reported": "Receipt signed and delivered.",
    "replica.accepted": "Accepted: agrees with the quorum.",
    "replica.rejected": "Rejected.",
    "replica.expired": "The lease expired: the host went silent. A substitute may take over.",
    "replica.failed": "The run failed.",
    "replica.cancelled": "The replica was called off.",
}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


@register.filter
def short(digest: object) -> str:
    """The first 8 characters of a digest or key, without its algorithm; the last 8 of a UUID, which may begin with the time."""
    text = str(digest or "").removeprefix("sha256:")
    return text[-8:] if len(text) == 36 and text.count("-") == 4 else text[:8]


@register.simple_tag
def glyph(digest: object, size: int = 15) -> SafeString:
    """The drawing alone."""
    return mark_safe(glyph_svg(str(digest or ""), size_px=size))  # noqa: S308  made of numbers; the digest itself is not in it


@register.filter
def coded(words: object) -> SafeString:
    """Words with what is to be typed between backticks, as our messages have it: that as code."""
    parts = re.split(r"`([^`]+)`", str(words))
    return format_html_join("", "{}", ((format_html("<code>{}</code>", part) if place % 2 else part,) for place, part in enumerate(parts)))


@register.filter
def figure(value: object) -> str:
    """A number with three significant digits; a dash for None."""
    return "\u2013" if value is None or value == "" else f"{float(str(value)):.3g}"


@register.simple_tag
def digest(value: object) -> SafeString:
    """Glyph and 8 characters (`short`); the whole value as title and for copying. A dash where there is none."""
    if not value:
        return NONE
    text = str(value)
    return format_html('<span class="digest" title="{}" data-copy="{}">{}<code>{}</code></span>', text, text, glyph(text), short(text))


@register.filter
def credits(micro: object, least: int = 2) -> str:  # noqa: A001  the glossary's word
    """Millionths as credits: up to 6 decimals, at least `least`, thousands apart."""
    whole, part = divmod(abs(int(str(micro or 0))), 1_000_000)
    sign = "\u2212" if int(str(micro or 0)) < 0 else ""
    return f"{sign}{whole:,}".replace(",", "\u202f") + "." + f"{part:06d}".rstrip("0").ljust(least, "0")


@register.simple_tag
def credits_figure(micro: object) -> SafeString:
    """Millionths as credits for a large figure: two decimals from a thousand on, three from one on, rounded down; all of them as title."""
    exact = credits(micro)
    value = int(str(micro or 0))
    step = 10_000 if abs(value) >= 1_000_000_000 else 1_000 if abs(value) >= 1_000_000 else 1
    shown = abs(value) // step * step
    return format_html('<span title="{} credits">{}</span>', exact, credits(shown if value >= 0 else -shown))


@register.filter
def significant(value: object) -> str:
    """Three significant digits, thousands apart, no exponent within reason; a dash for None."""
    if value is None or value == "":
        return "\u2013"
    number = float(str(value))
    if number == 0 or 1e-4 <= abs(number) < 1000:
        return f"{number:.3g}" if abs(number) < 100 else f"{number:.0f}"
    if abs(number) < 1e-4:
        return f"{number:.2e}"
    return f"{float(f'{number:.3g}'):,.0f}".replace(",", "\u202f")


@register.filter
def tflop_hours(micro: object) -> str:
    """Millionths of a TFLOP/s-hour as TFLOP-hours, three significant digits."""
    return significant(int(str(micro or 0)) / 1e6)


@register.filter
def accuracy(share: float | None) -> str:
    """A share of 1 as per cent: never 100 % where something is missing. A dash for None."""
    if share is None:
        return "\u2013"
    return "100 %" if share == 1 else f"{min(share * 100, 99.9):.3g} %"


@register.filter
def statistic(value: float) -> str:
    """A measured number with six significant digits: what a column of statistics needs to be compared."""
    return f"{value:.6g}".replace("-", "\u2212")


@register.filter
def seconds(value: object) -> str:
    """A duration with its unit: `42 s`, `3 min 20 s`, `5 h 12 min`, `2 d 4 h`; a dash for None."""
    if value is None or value == "":
        return "\u2013"
    left = max(0, round(float(str(value))))
    for position, (size, unit) in enumerate(_UNITS):
        if left >= size:
            smaller, smaller_unit = _UNITS[position + 1] if position + 1 < len(_UNITS) else (1, "s")
            rest = left % size // smaller
            return f"{left // size} {unit} {rest} {smaller_unit}" if rest else f"{left // size} {unit}"
    return f"{left} s"


@register.filter
def brief(value: object) -> str:
    """A short duration, three digits: `840 ms`, `3.41 s`, and from a minute on as `seconds`; a dash for None."""
    if value is None or value == "":
        return "\u2013"
    passed = max(0.0, float(str(value)))
    if passed >= 60:
        return seconds(passed)
    return f"{passed:.3g} s" if passed >= 1 else f"{passed * 1000:.3g} ms"


@register.simple_tag
def ago(moment: datetime | None) -> SafeString:
    """Relative time, of what is to come too, with the absolute one as title and for machines. A dash for None."""
    if moment is None:
        return NONE
    passed = timezone.now() - moment
    if passed <= -timedelta(minutes=1):
        words = f"in {_coarse(-passed.total_seconds())}"
    else:  # clocks differ by seconds
        words = "just now" if passed < timedelta(seconds=2) else f"{_coarse(passed.total_seconds())} ago"
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S} UTC", words)


@register.simple_tag
def clock(moment: datetime | None) -> SafeString:
    """The time of day, with the date as title; the date too when it isn't today's."""
    if moment is None:
        return mark_safe("")
    text = f"{moment:%H:%M:%S}" if moment.date() == timezone.now().date() else f"{moment:%Y-%m-%d %H:%M}"
    return format_html('<time datetime="{}" title="{}">{}</time>', moment.isoformat(), f"{moment:%Y-%m-%d %H:%M:%S} UTC", text)


@register.simple_tag
def ticks(seen: int, registered: int) -> SafeString:
    """One tick a node: those heard of lately are full. The rest of a large fleet is a number."""
    shown, online = min(registered, TICKS_MAX), min(seen, TICKS_MAX)
    if not registered:
        return mark_safe('<span class="muted small">none has joined</span>')
    width = shown * _TICK_STEP
    bars = format_html_join(
        "",
        '<rect class="{}" x="{}" y="0.5" width="4" height="13"/>',
        (("on" if place < online else "off", place * _TICK_STEP + 0.5) for place in range(shown)),
    )
    more = f"+{registered - shown}" if registered > shown else ""
    return format_html(
        '<svg class="ticks" width="{}" height="14" viewBox="0 0 {} 14" role="img" aria-label="{} of {} online">{}</svg>{}',
        width,
        width,
        seen,
        registered,
        bars,
        more,
    )


@register.filter
def percent(value: object) -> str:
    """A share in whole percent; a dash for None and for nothing."""
    return "\u2013" if value is None or value == "" else f"{float(str(value)):.0f} %"


@register.simple_tag
def fleet_strip(online: int, paused: int, quarantined: int, silent: int) -> SafeString:
    """One tick a node, in this order, each state with a shape of its own; of a large fleet one tick stands for several, which is said."""
    counts = {"online": online, "paused": paused, "quarantined": quarantined, "silent": silent}
    registered = sum(counts.values())
    if not registered:
        return mark_safe('<p class="small muted">No node has joined this tier.</p>')
    each = -(-registered // STRIP_TICKS)
    drawn = [state for state, count in counts.items() for _ in range(-(-count // each))]
    width = len(drawn) * _STRIP_STEP
    bars = format_html_join("", '<path class="{}" d="{}"/>', ((state, _strip_tick(state, place)) for place, state in enumerate(drawn)))
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    more = format_html('<p class="small muted">One tick is {} nodes.</p>', each) if each > 1 else ""
    return format_html(
        '<svg class="strip" width="{}" height="24" viewBox="0 0 {} 24" role="img" aria-label="{}">{}</svg>{}',
        width,
        width,
        words,
        bars,
        more,
    )


def _strip_tick(state: str, place: int) -> str:
    left = place * _STRIP_STEP + 1
    return {
        "online": f"M{left} 2h5v20h-5z",
        "paused": f"M{left} 12h5v10h-5z",
        "quarantined": f"M{left} 8l5 8m0-8l-5 8",
        "silent": f"M{left} 22h5",
    }[state]


@register.filter
def number(value: object) -> str:
    """Three significant digits; a dash for None."""
    return "\u2013" if value is None or value == "" else number_short(float(str(value)))


@register.simple_tag
def line_chart(points: Sequence[Point], name: str, unit: str, meaning: str = "running", top: float | None = None) -> SafeString:
    """A series over time (nexaportal/charts.py); words where there is too little to draw. `name`, `unit`, `meaning`: the template's own."""
    drawn = line_chart_svg(points, name=name, unit=unit, meaning=meaning, top=top)
    return mark_safe(drawn or '<p class="small muted">Nothing measured.</p>')  # noqa: S308  numbers and the template's words only


@register.filter
def axis_top(largest: float) -> float:
    """Where an axis ends that is to show `largest`: for charts that share one scale."""
    return scale_top(largest)


@register.simple_tag
def calendar(days: Sequence[WorkedDay], today: date) -> SafeString:
    """A year of days, a column a week (nexaportal/calendars.py)."""
    return mark_safe(calendar_svg(days, today=today))  # noqa: S308  numbers and dates only


@register.simple_tag
def event_words(event: Any) -> str:
    """An event of a job's timeline as a sentence; what isn't known here keeps its kind."""
    if event.kind == "job.queued" and not event.payload:  # only the first of them, at the submission, says anything
        return "A replica waits for a host."
    words = EVENT_WORDS.get(event.kind, event.kind.replace(".", " ").replace("_", " "))
    paid = event.payload.get("paid_micro") if isinstance(event.payload, dict) else None
    return f"{words} {credits(paid)} credits paid." if paid not in (None, "0") else words


@register.simple_tag
def spark(line: list[Any]) -> SafeString:
    """A custody line, 96 px wide, for rows: the same six marks; its words for those who don't see it."""
    here = next((mark for mark in line if mark.state != "done"), None)
    words = "credited: all six marks done" if here is None else f"{here.name}: {here.state}"
    rail = _SPARK_STEP * (len(line) - 1)
    marks = format_html_join(
        "", '<g class="{}" transform="translate({} 6)">{}</g>', (_spark_mark(line, place) for place in range(len(line)))
    )
    return format_html(
        '<svg class="spark" width="{}" height="12" viewBox="0 0 {} 12" role="img" aria-label="{}"><path class="rail" d="M3 6H{}"/>{}</svg>',
        rail + 6,
        rail + 6,
        words,
        rail + 3,
        marks,
    )


def _spark_mark(line: list[Any], place: int) -> tuple[str, int, SafeString]:
    shapes = {
        "done": '<circle r="3"/>',
        "now": '<circle class="ring" r="2.5"/><circle r="1"/>',
        "waiting": '<circle class="ring" r="2.5"/>',
        "broken": '<path class="cross" d="M-2.5-2.5l5 5m0-5l-5 5"/>',
        "open": '<circle r="1.5"/>',
    }
    state = str(line[place].state)
    return f"is-{state}", 3 + place * _SPARK_STEP, mark_safe(shapes[state])  # noqa: S308  from the table above


def _coarse(passed_seconds: float) -> str:
    """One unit only: nobody needs the seconds of a day."""
    left = max(0, int(passed_seconds))
    for size, unit in _UNITS:
        if left >= size:
            return f"{left // size} {unit}"
    return f"{left} s"
