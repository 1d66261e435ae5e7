"""How pages show digests, credits, times and custody."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from django.test.html import parse_html
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from jobs.evidence.custody import Progress, job_line
from jobs.states import JobState, ReplicaState
from nexaportal.glyphs import CELLS, glyph_cells, glyph_svg
from nexaportal.templatetags import portal

DIGEST = "sha256:" + "ab" * 32


@given(st.text())
def test_any_text_has_one_symmetrical_glyph(text: str) -> None:
    cells = glyph_cells(text)
    assert cells == glyph_cells(text)
    assert {(CELLS - 1 - x, y, tone) for x, y, tone in cells} == set(cells)
    parse_html(glyph_svg(text))


def test_glyphs_differ() -> None:
    assert len({glyph_svg(str(number)) for number in range(500)}) == 500


def test_a_digest_is_short_with_the_whole_to_copy() -> None:
    shown = portal.digest(DIGEST)
    assert "<code>abababab</code>" in shown
    assert f'data-copy="{DIGEST}"' in shown
    assert portal.digest("") == portal.digest(None) == portal.NONE


@given(st.text(min_size=1))
def test_hostile_digests_stay_text(text: str) -> None:
    shown = portal.digest("<script>\"'" + text)
    assert "<script" not in shown
    assert not re.search(r"""title="[^"]*'>?<""", shown)


@pytest.mark.parametrize(
    ("micro", "shown"),
    [
        (0, "0.00"),
        (1, "0.000001"),
        (10_000_000, "10.00"),
        (-1_500_000, "\u22121.50"),
        ("272222", "0.272222"),
        (1_234_567_000_000, "1\u202f234\u202f567.00"),
    ],
)
def test_credits_are_exact(micro: object, shown: str) -> None:
    assert portal.credits(micro) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "\u2013"),
        (0.4, "0 s"),
        (59, "59 s"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3720, "1 h 2 min"),
        (187_200, "2 d 4 h"),
        (-5, "0 s"),
    ],
)
def test_durations_have_units(value: float | None, shown: str) -> None:
    assert portal.seconds(value) == shown


def test_times_are_relative_with_the_absolute_one_beside() -> None:
    now = timezone.now()
    assert ">just now<" in portal.ago(now)
    assert ">3 min ago<" in portal.ago(now - timedelta(seconds=185))
    assert ">2 d ago<" in portal.ago(now - timedelta(days=2, hours=5))
    assert ">in 3 min<" in portal.ago(now + timedelta(seconds=185.5))
    assert ">just now<" in portal.ago(now + timedelta(seconds=30))
    assert f'title="{now:%Y-%m-%d %H:%M:%S} UTC"' in portal.ago(now)
    assert "\u2013" in portal.ago(None)
    assert portal.clock(None) == ""
    assert ">2020-02-03 04:05<" in portal.clock(datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert f">{now:%H:%M:%S}<" in portal.clock(now)


@pytest.mark.parametrize("state", list(JobState))
def test_a_spark_draws_six_marks_and_says_where_custody_is(state: JobState) -> None:
    drawn = portal.spark(job_line(state=state, quorum=1, progress=Progress(leased=1)))
    parse_html(drawn)
    assert drawn.count("<g ") == 6
    assert ("all six marks done" in drawn) == (state == JobState.COMPLETED)


def test_ticks_are_one_a_node_up_to_a_limit() -> None:
    few, many = portal.ticks(2, 3), portal.ticks(100, 1000)
    parse_html(few)
    assert (few.count('class="on"'), few.count('class="off"')) == (2, 1)
    assert many.count('class="on"') == portal.TICKS_MAX
    assert many.endswith(f"+{1000 - portal.TICKS_MAX}")
    assert "none has joined" in portal.ticks(0, 0)


def event(kind: str, **payload: object) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, payload=payload)


def test_every_transition_has_words() -> None:
    for kind in [*(f"job.{state}" for state in JobState), *(f"replica.{state}" for state in ReplicaState)]:
        assert portal.event_words(event(kind)).endswith(".")
    assert portal.event_words(event("job.queued", tier="cpu")).startswith("Submitted")
    assert portal.event_words(event("job.queued")) == "A replica waits for a host."
    assert portal.event_words(event("replica.accepted", paid_micro="1500000")).endswith("1.50 credits paid.")
    assert portal.event_words(event("made.up_later")) == "made up later"


def test_what_is_typed_is_shown_as_code_and_all_else_escaped() -> None:
    assert portal.coded("run `nexa <b>` or <i>`") == "run <code>nexa &lt;b&gt;</code> or &lt;i&gt;`"
    assert portal.coded("nothing to type") == "nothing to type"


@pytest.mark.parametrize(
    ("micro", "shown", "exact"),
    [
        (0, "0.00", "0.00"),
        (22_000, "0.022", "0.022"),
        (15_776_179, "15.776", "15.776179"),
        (123_456_789_022_337_678, "123\u202f456\u202f789\u202f022.33", "123\u202f456\u202f789\u202f022.337678"),
        (-2_009_919_999, "\u22122\u202f009.91", "\u22122\u202f009.919999"),
    ],
)
def test_a_large_figure_of_credits_is_rounded_down_and_exact_on_hover(micro: int, shown: str, exact: str) -> None:
    assert portal.credits_figure(micro) == f'<span title="{exact} credits">{shown}</span>'


def test_ids_of_one_minute_are_told_apart_by_what_is_shown_of_them() -> None:
    """Ids of jobs begin with the time: the beginning is the same for all of a minute, or an hour."""
    ids = ["01a21d3f-0000-7000-8000-00000000beef", "01a21d3f-0000-7000-8000-00000000cafe"]
    assert [portal.short(one) for one in ids] == ["0000beef", "0000cafe"]
    assert portal.short("sha256:0123456789abcdef") == portal.short("0123456789abcdef") == "01234567"
    assert portal.short(None) == ""
