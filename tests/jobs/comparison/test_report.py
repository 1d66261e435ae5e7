"""What a comparison tells: numbers that agree exactly as the rule says, the worst of all, and short, printable evidence."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.comparison.report import FILES_REPORTED_MAX, Comparison, Deviation, FileReport, Tally
from jobs.comparison.rules import Tolerance
from jobs.comparison.scalars import allowed_of, numbers_difference
from jobs.descriptor.formats import FileFormat

tolerances = st.builds(Tolerance, absolute=st.floats(0, 1e300), relative=st.floats(0, 1))


@given(one=st.floats(), other=st.floats(), tolerance=tolerances)
def test_numbers_agree_exactly_as_the_rule_says(one: float, other: float, tolerance: Tolerance) -> None:
    difference = numbers_difference(one, other)
    allowed = allowed_of(tolerance, one, other, difference)
    assert difference == numbers_difference(other, one)
    if math.isfinite(one) and math.isfinite(other) and math.isfinite(one - other):
        assert (difference <= allowed) == (abs(one - other) <= tolerance.absolute + tolerance.relative * max(abs(one), abs(other)))
    else:
        assert (difference <= allowed) == (one == other or (math.isnan(one) and math.isnan(other)))


@given(one=st.floats(0, 1e308), allowed=st.floats(0, 1e308))
def test_share_is_above_one_exactly_where_values_exceed(one: float, allowed: float) -> None:
    assert (Deviation("f", "p", "1", "2", one, allowed).share > 1) == (one > allowed)


def tally_of(*found: tuple[float, float]) -> Tally:
    tally = Tally("f")
    for number, (difference, allowed) in enumerate(found):
        if tally.differs(difference, allowed):
            tally.worst_is(f"place {number}", 1, 2, difference, allowed)
    return tally


def test_worst_has_the_largest_share_then_the_largest_difference() -> None:
    worst = tally_of((1, 10), (2, 4), (9, 100), (5, 10)).worst
    assert worst is not None
    assert (worst.place, worst.difference) == ("place 3", 5)
    worst = tally_of((1, 0), (3, 0), (2, 0)).worst
    assert worst is not None
    assert worst.place == "place 1"
    tally = tally_of((3, 0))
    tally.disagrees("header", "a", "b")
    assert tally.worst is not None
    assert tally.worst.place == "header"


def test_deviation_is_kept_short_printable_and_without_infinities() -> None:
    document = Deviation("f", "p" * 500, "1" * 500, "a\x1b[2J\0\u202eb\ud800", math.inf, math.inf).document()
    assert (len(document["place"]), len(document["one"])) == (200, 80)
    assert document["other"] == "a\ufffd[2J\ufffd\ufffdb\ufffd"
    assert document["difference"] is document["allowed"] is None
    json.dumps(document, allow_nan=False)


def report(name: str, difference: float, *, compared: int = 10) -> FileReport:
    tally = tally_of((difference, 1.0))
    tally.file = name
    tally.equal(compared - 1)
    if tally.worst:
        tally.worst = Deviation(name, "row 1, x", "1", "2", difference, 1.0)
    return tally.report(FileFormat.CSV)


def test_comparison_agrees_when_no_value_of_any_file_exceeds() -> None:
    assert Comparison((report("a", 0.5), report("b", 1.0))).agree
    assert not Comparison((report("a", 0.5), report("b", 1.5))).agree
    assert Comparison().agree


def test_document_counts_all_and_describes_the_worst_files() -> None:
    files = tuple(report(f"file {number:02d}", number / 100) for number in range(50))
    document = Comparison((*files, report("bad", 7.0)), identical=3).document()
    assert (document["agree"], document["compared"], document["exceeding"]) == (False, 510, 1)
    assert (document["files_compared"], document["files_identical"]) == (51, 3)
    assert document["worst"] == {"file": "bad", "place": "row 1, x", "one": "1", "other": "2", "difference": 7.0, "allowed": 1.0}
    assert [file["file"] for file in document["files"]][:2] == ["bad", "file 49"]
    assert len(document["files"]) == FILES_REPORTED_MAX
    assert document["files"][0] | {"worst": None} == {"file": "bad", "format": "csv", "compared": 10, "exceeding": 1, "worst": None}


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (Comparison(identical=2), "2 files have the same bytes."),
        (Comparison(), "0 files have the same bytes."),
        (
            Comparison((report("a.csv", 7.0),), identical=1),
            "1 file has the same bytes. 1 of 10 values in 1 other file exceed what is allowed. "
            "The worst is in a.csv at row 1, x: 1 against 2, 7 apart where 1 is allowed.",
        ),
        (
            Comparison((report("a.csv", 0.0),)),
            "0 files have the same bytes. 0 of 10 values in 1 other file exceed what is allowed. Nothing differs.",
        ),
        (
            Comparison((report("a.csv", math.inf),)),
            "0 files have the same bytes. 1 of 10 values in 1 other file exceed what is allowed. "
            "The worst is in a.csv at row 1, x: 1 against 2.",
        ),
    ],
)
def test_sentence(comparison: Comparison, sentence: str) -> None:
    assert comparison.sentence == sentence
