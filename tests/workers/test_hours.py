"""Hours of the week: what is written, when they are, and when the next begin."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.hours import DAYS, Span, minutes_until, next_begin

MONDAY = datetime(2026, 11, 23)  # noqa: DTZ001  a time on a wall, whose zone plays no part
WEEK_MINUTES = 7 * 24 * 60


def at(day: str, time: str) -> datetime:
    hour, minute = map(int, time.split(":"))
    return MONDAY + timedelta(days=DAYS.index(day), hours=hour, minutes=minute)


@pytest.mark.parametrize(
    ("text", "day", "time", "waits"),
    [
        ("mon-fri 19:00-07:00", "mon", "19:00", 0),
        ("mon-fri 19:00-07:00", "mon", "18:59", 1),
        ("mon-fri 19:00-07:00", "tue", "06:59", 0),
        ("mon-fri 19:00-07:00", "tue", "07:00", 12 * 60),
        ("mon-fri 19:00-07:00", "sat", "06:00", 0),
        ("mon-fri 19:00-07:00", "sat", "07:00", (2 * 24 + 12) * 60),
        ("mon-fri 19:00-07:00", "mon", "06:00", 13 * 60),
        ("sun 23:00-01:00", "mon", "00:30", 0),
        ("sun 23:00-01:00", "mon", "01:00", WEEK_MINUTES - 120),
        ("sat,sun", "sat", "00:00", 0),
        ("sat,sun", "sun", "23:59", 0),
        ("sat,sun", "mon", "00:00", 5 * 24 * 60),
        ("fri-mon", "thu", "23:59", 1),
        ("fri-mon", "mon", "23:59", 0),
        ("22:00-06:00", "wed", "05:59", 0),
        ("22:00-06:00", "wed", "06:00", 16 * 60),
        ("Mon, Wed", "mon", "00:00", None),
        ("tue 09:00-24:00", "tue", "23:59", 0),
        ("tue 09:00-24:00", "wed", "00:00", (6 * 24 + 9) * 60),
        ("00:00-24:00", "thu", "12:00", 0),
    ],
)
def test_span_of_the_week(text: str, day: str, time: str, waits: int | None) -> None:
    if waits is None:
        with pytest.raises(ValueError, match="found"):
            Span.parse(text)
    else:
        assert minutes_until((Span.parse(text),), at(day, time)) == waits


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "mo 10:00-12:00",
        "mon-wed-fri",
        "mon 10:00",
        "mon 10:00-10:00",
        "mon 24:00-02:00",
        "25:00-26:00",
        "mon 10:60-11:00",
        "10-12",
    ],
)
def test_what_is_no_span_is_refused_with_what_is_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Span.parse(text)


def test_next_begin_is_told_by_day_and_time() -> None:
    spans = (Span.parse("mon-fri 19:00-07:00"), Span.parse("sat 10:30-12:00"))
    assert next_begin(spans, at("fri", "12:00")) == "Friday at 19:00"
    assert next_begin(spans, at("sat", "08:00")) == "Saturday at 10:30"
    assert next_begin(spans, at("sun", "08:00")) == "Monday at 19:00"


def test_without_hours_it_is_always_time() -> None:
    assert minutes_until((), at("mon", "12:00")) == 0


@settings(deadline=None)  # a busy machine is no slow code
@given(
    st.sets(st.sampled_from(DAYS), min_size=1),
    st.integers(0, 24 * 60 - 1),
    st.integers(1, 24 * 60),
    st.integers(0, WEEK_MINUTES - 1),
)
def test_after_the_wait_and_not_before_it_is_time(days: set[str], start: int, lasts: int, minute: int) -> None:
    end = (start + lasts) % (24 * 60)
    if start == end and start != 0:
        return
    ends = "24:00" if end == 0 else f"{end // 60:02}:{end % 60:02}"
    span = Span.parse(f"{','.join(sorted(days))} {start // 60:02}:{start % 60:02}-{ends}")
    now = MONDAY + timedelta(minutes=minute)
    waits = minutes_until((span,), now)
    assert minutes_until((span,), now + timedelta(minutes=waits)) == 0
    if waits:
        assert minutes_until((span,), now + timedelta(minutes=waits - 1)) == 1
