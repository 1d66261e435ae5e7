"""Comparison of single files: each kind of deviation, and what any bytes at all may do."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.comparison.numeric import FILE_BYTES_MAX, NUMBER_CHARACTERS_MAX, FileRule, FileUnreadableError, files_compare, numeric_supported
from jobs.comparison.tolerance import Comparison, Deviation, Tolerance, comparison_of, numbers_compare

LOOSE = Tolerance(absolute=0.5, relative=0.01)


def compared(
    one: str | bytes, other: str | bytes, *, path: str = "a.csv", tolerance: Tolerance = LOOSE, **columns: Tolerance
) -> Comparison:
    sides = [side.encode() if isinstance(side, str) else side for side in (one, other)]
    forth = files_compare(FileRule(path, tolerance, columns), sides[0], sides[1])
    back = files_compare(FileRule(path, tolerance, columns), sides[1], sides[0])
    comparisons = [comparison_of([worst] if worst else []) for worst in (forth, back)]
    assert comparisons[0].agree == comparisons[1].agree
    return comparisons[0]


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("x\n1.0\n", "x\n1.5\n", True),
        ("x\n1.0\n", "x\n1.6\n", False),
        ("x\n1000\n", "x\n1010.5\n", True),
        ("x\n1000\n", "x\n1011\n", False),
        ("x\n1e3\n", "x\n1000\n", True),
        ("x\n 1\n", "x\n1 \n", True),
        ("x\nnan\n", "x\nNaN\n", True),
        ("x\nnan\n", "x\n0\n", False),
        ("x\ninf\n", "x\nInfinity\n", True),
        ("x\ninf\n", "x\n-inf\n", False),
        ("x\ninf\n", "x\n1e308\n", False),
        ("x\n1e308\n", "x\n-1e308\n", False),
        ("x\n1e400\n", "x\ninf\n", True),
        ("x\nyes\n", "x\nyes\n", True),
        ("x\nyes\n", "x\nno\n", False),
        ("x\n1\n", "x\none\n", False),
        ("x\n1\n", "y\n1\n", False),
        ("x\n1\n", "x\n1\n1\n", False),
        ("x,y\n1,2\n", "x,y\n1\n", False),
        ("x,y\n1\n", "x,y\n1\n\n", True),
        ("x\n1\n\n", "x\n\n1\n", True),
        ('x\n"1"\n', "x\n1\n", True),
        ("\ufeffx\n1\n", "x\n1\n", True),
        ("x\r\n1\r\n", "x\n1\n", True),
        ("x\n\u0661\n", "x\n1\n", False),
        ("x\n" + "1" * NUMBER_CHARACTERS_MAX + "0\n", "x\n" + "1" * NUMBER_CHARACTERS_MAX + "1\n", False),
        ("x\n" + "1" * 20_000 + "x\n", "x\n" + "1" * 20_000 + "y\n", False),
    ],
)
def test_table(one: str, other: str, agree: bool) -> None:
    assert compared(one, other).agree is agree


@pytest.mark.parametrize(
    ("one", "other", "agree"),
    [
        ("1", "1.4", True),
        ("1", "2", False),
        ('{"a": [1, {"b": 2}]}', '{"a": [1.2, {"b": 2.2}]}', True),
        ('{"a": 1}', '{"b": 1}', False),
        ('{"a": 1}', '{"a": 1, "b": 1}', False),
        ("[1, 2]", "[1]", False),
        ("[]", "{}", False),
        ("null", "null", True),
        ("null", "0", False),
        ("true", "1", False),
        ("true", "true", True),
        ("false", "true", False),
        ('"a"', '"a"', True),
        ('"1"', "1", False),
        ('"a"', '"b"', False),
        ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', True),
    ],
)
def test_document(one: str, other: str, agree: bool) -> None:
    assert compared(one, other, path="a.json").agree is agree


def test_worst_deviation_names_its_place_and_size() -> None:
    found = compared("t,x\n0,1.0\n1,2.0\n", "t,x\n0,1.1\n1,2.4\n").worst
    assert found is not None
    assert (found.place, found.one, found.other) == ("row 2, x", "2.0", "2.4")
    assert found.difference == pytest.approx(0.4)
    assert found.allowed == pytest.approx(0.524)
    assert found.document()["difference"] == found.difference


def test_worst_deviation_of_a_document_has_a_pointer() -> None:
    found = compared('{"a": [1, 2]}', '{"a": [1, 9]}', path="a.json").worst
    assert found is not None
    assert found.place == "/a/1"


def test_tsv_is_split_at_tabs() -> None:
    assert compared("a\tb,c\n1\tx,1\n", "a\tb,c\n1.1\tx,1\n", path="a.tsv").agree
    assert not compared("a\tb,c\n1\tx,1\n", "a\tb,c\n1.1\tx,2\n", path="a.tsv").agree


def test_columns_have_tolerances_of_their_own_and_the_rest_that_of_the_file() -> None:
    exact, wide = Tolerance(), Tolerance(absolute=100)
    assert compared("t,x\n1,1\n", "t,x\n1,50\n", tolerance=exact, x=wide).agree
    assert not compared("t,x\n1,1\n", "t,x\n2,50\n", tolerance=exact, x=wide).agree
    assert compared('{"t": 1, "x": [1]}', '{"t": 1, "x": [50]}', path="a.json", tolerance=exact, x=wide).agree
    assert not compared('{"t": 1, "x": 1}', '{"t": 2, "x": 1}', path="a.json", tolerance=exact, x=wide).agree
    assert not compared('{"t": 1, "x": 1}', '{"x": 1}', path="a.json", tolerance=exact, x=wide).agree


@pytest.mark.parametrize(
    ("path", "data"), [("a.csv", "t\n1\n"), ("a.csv", "x,x\n1,1\n"), ("a.json", '{"t": 1}'), ("a.json", "[1]"), ("a.json", "1")]
)
def test_column_that_is_not_there_once_is_unreadable(path: str, data: str) -> None:
    with pytest.raises(FileUnreadableError, match="expected"):
        compared(data, data.replace("1", "2"), path=path, x=LOOSE)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.csv", b""),
        ("a.csv", b"\n\n"),
        ("a.csv", b"\xff\xfe"),
        ("a.csv", b'x\n"unclosed'),
        ("a.csv", b'x\n"a"b\n'),
        ("a.csv", b"x\n" + b"1" * 200_000),
        ("a.json", b""),
        ("a.json", b"{"),
        ("a.json", b"NaN"),
        ("a.json", b"1e999"),
        ("a.json", b"1" * 5000),
        ("a.json", b"9007199254740993"),
        ("a.json", b'{"a": 1, "a": 2}'),
        ("a.json", b"[" * 100_000),
        ("a.txt", b"1"),
        ("a", b"1"),
    ],
)
def test_file_that_cannot_be_read_is_unreadable_on_either_side(path: str, data: bytes) -> None:
    fine = {"a.csv": b"x\n1\n", "a.json": b"1"}.get(path, b"1")
    for one, other in ((data, fine), (fine, data)):
        with pytest.raises(FileUnreadableError) as caught:
            files_compare(FileRule(path, LOOSE), one, other)
        assert caught.value.code == "output_unreadable"


def test_file_that_is_too_large_is_unreadable() -> None:
    with pytest.raises(FileUnreadableError, match=f"at most {FILE_BYTES_MAX} bytes; found {FILE_BYTES_MAX + 1}"):
        files_compare(FileRule("a.csv", LOOSE), b"x", b"x" * (FILE_BYTES_MAX + 1))


@pytest.mark.parametrize("cell", ["1" * 100_000 + "x", "1." + "1" * 100_000 + "e", "+" * 100_000])
def test_hostile_cell_costs_little_time(cell: str) -> None:
    started = time.process_time()
    compared(f"x\n{cell}\n", f"x\n{cell}y\n")
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("path", "supported"), [("a.csv", True), ("b/a.TSV", True), ("a.json", True), ("a.pdb", False), ("csv", True), ("a", False)]
)
def test_numeric_files_are_known_by_their_ending(path: str, supported: bool) -> None:
    assert numeric_supported(path) is supported


paths = st.sampled_from(["a.csv", "a.tsv", "a.json"])
tolerances = st.builds(Tolerance, absolute=st.floats(0, 1e300), relative=st.floats(0, 1))
cells = st.one_of(st.floats().map(repr), st.integers().map(str), st.text(alphabet='a1.,e+-"\t \n\0', max_size=6))
tables = st.lists(st.lists(cells, max_size=3).map(",".join), max_size=4).map("\n".join).map(lambda text: "x,y\n" + text)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-100, 100), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)),
    max_leaves=6,
)
contents = st.one_of(st.binary(max_size=40), tables.map(str.encode), documents.map(json.dumps).map(str.encode))


def attempt(rule: FileRule, one: bytes, other: bytes) -> Comparison | str:
    try:
        worst = files_compare(rule, one, other)
    except FileUnreadableError:
        return "unreadable"
    comparison = comparison_of([worst] if worst else [])
    json.dumps(comparison.document(), allow_nan=False)
    return comparison


@given(path=paths, one=contents, other=contents, tolerance=tolerances, columns=st.dictionaries(st.sampled_from(["x", "y"]), tolerances))
def test_any_bytes_give_a_symmetric_answer_or_are_unreadable(
    path: str, one: bytes, other: bytes, tolerance: Tolerance, columns: dict[str, Tolerance]
) -> None:
    rule = FileRule(path, tolerance, columns)
    forth, back = attempt(rule, one, other), attempt(rule, other, one)
    if isinstance(forth, Comparison) and isinstance(back, Comparison):
        assert forth.agree == back.agree
    else:
        assert forth == back


@given(path=paths, data=contents)
def test_readable_file_agrees_with_itself_without_any_tolerance(path: str, data: bytes) -> None:
    found = attempt(FileRule(path, Tolerance()), data, data)
    assert found in ("unreadable", Comparison(agree=True, worst=None))


@given(one=st.floats(), other=st.floats(), tolerance=tolerances)
def test_numbers_agree_exactly_as_the_rule_says(one: float, other: float, tolerance: Tolerance) -> None:
    found = numbers_compare("f", "p", one, other, tolerance)
    agree = comparison_of([found] if found else []).agree
    if math.isfinite(one) and math.isfinite(other) and math.isfinite(one - other):
        assert agree == (abs(one - other) <= tolerance.absolute + tolerance.relative * max(abs(one), abs(other)))
    else:
        assert agree == (one == other or (math.isnan(one) and math.isnan(other)))


def test_deviation_is_kept_short_and_without_infinities() -> None:
    document = Deviation("f", "p" * 500, "1" * 500, "2" * 500, math.inf, math.inf).document()
    assert (len(document["place"]), len(document["one"]), len(document["other"])) == (200, 80, 80)
    assert document["difference"] is document["allowed"] is None
