"""CSV, TSV and plain text tables: each kind of deviation, each rule, and what can't be read."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.comparison import FileUnreadableError, reading, tables
from jobs.comparison.comparators import files_compare
from jobs.comparison.reading import FILE_BYTES_MAX, LINE_CHARACTERS_MAX
from jobs.comparison.rules import EXACTLY, Tolerance
from jobs.comparison.scalars import NUMBER_CHARACTERS_MAX
from jobs.descriptor.formats import NanPolicy, RowOrder
from tests.jobs.comparison.sides import LOOSE, agree, compared, figures, rule_of

WIDE = Tolerance(absolute=100)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("x\n1.0\n", "x\n1.5\n", True),
        ("x\n1.0\n", "x\n1.6\n", False),
        ("x\n1000\n", "x\n1010.5\n", True),
        ("x\n1000\n", "x\n1011\n", False),
        ("x\n1e3\n", "x\n1000\n", True),
        ("x\n1d3\n", "x\n1000\n", True),
        ("x\n 1\n", "x\n1 \n", True),
        ("x \n1\n", "x\n1\n", True),
        ("x\nnan\n", "x\nNaN\n", True),
        ("x\nnan\n", "x\n0\n", False),
        ("x\ninf\n", "x\nInfinity\n", True),
        ("x\ninf\n", "x\n-inf\n", False),
        ("x\ninf\n", "x\n1e308\n", False),
        ("x\n1e308\n", "x\n-1e308\n", False),
        ("x\n+inf\n", "x\nINFINITY\n", True),
        ("x\n1e400\n", "x\ninf\n", False),
        ("x\n1e400\n", "x\n1.01e400\n", True),
        ("x\n1e400\n", "x\n1.02e400\n", False),
        ("x\n1e-400\n", "x\n-9e-4000\n", True),
        ("x\n0\n", "x\n1e-99999999999\n", True),
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
def test_csv(one: str, other: str, expected: bool) -> None:
    assert agree(rule_of("a.csv"), one, other) is expected


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("1 2\n3 4\n", "1.2  2\n  3 4\n", True),
        ("1 2\n3 4\n", "1 2\n3 5\n", False),
        ("1\t2\n", "1 2\n", True),
        ("# made today\n1 2\n", "# made yesterday\n\n1 2\n", True),
        ('@ title "one"\n1 2\n&\n', "@ title 'other'\n1.1 2\n&\n", True),
        ("  # note\n1\n", "1\n", True),
        ("t x\n1 2\n", "t x\n1 2.1\n", True),
        ("t x\n1 2\n", "t y\n1 2\n", False),
        ("t x\n1 2\n", "1 2\n", False),
        ("ALA 1 2\n", "ALA 1.1 2\n", True),
        ("ALA 1 2\n", "GLY 1 2\n", False),
        ("1 2\n3\n", "1 2\n3\n", True),
        ("1 2\n3\n", "1 2\n3 4\n", False),
        ("1\n2 3\n", "1\n2.1 3.1\n", True),
        ("free text of one 5 and 1.0\n", "free text of one 5 and 1.2\n", True),
        ("1.0D+03\n", "1.0E+03\n", True),
        ("1 #2\n", "1 #3\n", False),
    ],
)
def test_text(one: str, other: str, expected: bool) -> None:
    for path in ("a.txt", "a.dat", "a.xvg"):
        assert agree(rule_of(path), one, other) is expected


def test_tsv_is_split_at_tabs() -> None:
    assert agree(rule_of("a.tsv"), "a\tb,c\n1\tx,1\n", "a\tb,c\n1.1\tx,1\n")
    assert not agree(rule_of("a.tsv"), "a\tb,c\n1\tx,1\n", "a\tb,c\n1.1\tx,2\n")


def test_worst_deviation_names_its_place_and_size_and_all_are_counted() -> None:
    found = compared(rule_of("a.csv"), "t,x\n0,1.0\n1,2.0\n2,5\n", "t,x\n0,1.1\n1,2.4\n2,7\n")
    assert (found.compared, found.exceeding) == (6, 1)
    assert found.worst is not None
    assert (found.worst.place, found.worst.one, found.worst.other) == ("row 3, x", "5", "7")
    assert found.worst.difference == 2.0
    assert found.worst.allowed == pytest.approx(0.57)


def test_worst_of_a_table_without_header_names_the_column_by_number() -> None:
    found = compared(rule_of("a.txt"), "1 2\n3 4\n", "1 2\n3 4.25\n")
    assert found.worst is not None
    assert (found.worst.place, found.exceeding) == ("row 2, column 2", 0)


def test_columns_have_tolerances_of_their_own_and_the_rest_that_of_the_file() -> None:
    wide_x = rule_of("a.csv", EXACTLY, {"x": WIDE})
    assert agree(wide_x, "t,x\n1,1\n", "t,x\n1,50\n")
    assert not agree(wide_x, "t,x\n1,1\n", "t,x\n2,50\n")
    wide_second = rule_of("a.txt", EXACTLY, {"2": WIDE})
    assert agree(wide_second, "1 1\n", "1 50\n")
    assert not agree(wide_second, "1 1\n", "2 50\n")


@pytest.mark.parametrize("integer", [2**53, 2**63 - 1, 10**300, 10**398])
def test_integers_that_are_the_same_double_differ_where_nothing_is_allowed(integer: int) -> None:
    assert not agree(rule_of("a.csv", EXACTLY), f"x\n{integer}\n", f"x\n{integer + 1}\n")
    assert agree(rule_of("a.csv", Tolerance(absolute=1)), f"x\n{2**53}\n", f"x\n{2**53 + 1}\n")
    assert agree(rule_of("a.csv", EXACTLY), f"x\n{integer}\n", f"x\n+{integer}\n")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("7e4021", "9e8830", False),
        ("7e4021", "70D+4020", True),
        ("1.2e-400", "9e-4000", False),
        ("1.2e-400", "0.12d-399", True),
        ("1.2e-400", "-1.2e-400", False),
        ("1.2e-400", "0", False),
        ("0e12345", "0e99999", True),
        ("-0.00", "0e-99999999999999999999", True),
        ("1e1000001", "1e1000002", False),
        ("1e-1000001", "1e-1000002", False),
        ("1e999999999999999999999", "1e999999999999999999998", False),
        ("1e1000001", "+1e1000001", False),
    ],
)
def test_numbers_that_no_double_holds_are_the_same_only_where_they_spell_the_same(one: str, other: str, expected: bool) -> None:
    for nan in NanPolicy:
        assert agree(rule_of("a.csv", EXACTLY, nan=nan), f"x\n{one}\n", f"x\n{other}\n") is expected
        assert agree(rule_of("a.csv", EXACTLY, nan=nan), f"x\n{one}\n", f"x\n{one}\n")


def test_share_of_a_number_that_no_double_holds_is_what_the_rule_says() -> None:
    found = compared(rule_of("a.csv", Tolerance(relative=0.5)), "x\n4e5000\n", "x\n5e5000\n")
    assert found.exceeding == 0
    assert found.worst is not None
    assert found.worst.share <= 1
    beyond = compared(rule_of("a.csv", Tolerance(relative=0.5)), "x\n4e5000\n", "x\n9e5000\n")
    assert beyond.exceeding == 1
    assert beyond.worst is not None
    assert beyond.worst.share > 1


@settings(max_examples=200, deadline=None)
@given(
    digits=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    places=st.tuples(st.integers(310, 314), st.integers(310, 314)),
    is_small=st.booleans(),
    relative=st.sampled_from([0.0, 0.25, 1.0]),
)
def test_numbers_that_no_double_holds_agree_exactly_as_the_rule_says(
    digits: tuple[int, int], places: tuple[int, int], is_small: bool, relative: float
) -> None:
    exponents = [-place - 30 if is_small else place for place in places]
    one, other = (f"{digit}e{exponent}" for digit, exponent in zip(digits, exponents, strict=True))
    first, second = (Fraction(digit) * Fraction(10) ** exponent for digit, exponent in zip(digits, exponents, strict=True))
    expected = abs(first - second) <= Fraction(relative) * max(first, second)
    assert agree(rule_of("a.csv", Tolerance(relative=relative)), f"x\n{one}\n", f"x\n{other}\n") is expected


def test_nan_agrees_with_nothing_where_it_is_refused() -> None:
    refusing = rule_of("a.csv", nan=NanPolicy.REFUSE)
    assert agree(refusing, "x\nnano\n1\n", "x\nnano\n1\n")
    for one, other in (("x\nnan\n", "x\nnan\n"), ("x\n NaN\n", "x\n1\n")):
        assert compared(refusing, one, other).exceeding == 1


def test_header_by_rule() -> None:
    assert not agree(rule_of("a.csv"), "1,2\n", "1.1,2\n")
    assert agree(rule_of("a.csv", header=False), "1,2\n", "1.1,2\n")
    assert not agree(rule_of("a.txt", header=True), "1 2\n3 4\n", "1.1 2\n3 4\n")
    assert agree(rule_of("a.csv", EXACTLY, {"1": WIDE}, header=False), "1,2\n", "50,2\n")


ROWS = "id,kind,x\n1,a,1.0\n1,b,2.0\n2,a,3.0\n"


@pytest.mark.parametrize(
    ("other", "place"),
    [
        ("id,kind,x\n2,a,3.2\n1,b,2.0\n1,a,1.0\n", None),
        ("id,kind,x\n2,a,3.0\n1,b,9.0\n1,a,1.0\n", "row id=1 kind=b, x"),
        ("id,kind,x\n2,a,3.0\n1,a,1.0\n", "row id=1 kind=b"),
        ("id,kind,x\n2,a,3.0\n1,a,1.0\n1,b,2.0\n1,c,2.0\n", "row id=1 kind=c"),
        ("id,kind,x\n1.0,a,1.0\n1,b,2.0\n2,a,3.0\n", "row id=1 kind=a"),
    ],
)
def test_rows_in_any_order_are_matched_by_exact_keys(other: str, place: str | None) -> None:
    found = compared(rule_of("a.csv", order=RowOrder.ANY, key=("id", "kind")), ROWS, other)
    assert (found.exceeding > 0) is (place is not None)
    if place is not None:
        assert found.worst is not None
        assert found.worst.place == place


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 99), st.floats(-10, 10)), unique_by=lambda row: row[0], min_size=1, max_size=8), data=st.data()
)
def test_order_of_rows_makes_no_difference_where_it_may_be_any(rows: list[tuple[int, float]], data: st.DataObject) -> None:
    rule = rule_of("a.csv", order=RowOrder.ANY, key=("id",))
    shuffled = data.draw(st.permutations(rows))
    moved = [(key, value + 0.25 * (key % 4)) for key, value in rows]
    texts = ["id,x\n" + "".join(f"{key},{value!r}\n" for key, value in each) for each in (rows, shuffled, moved)]
    assert compared(rule, texts[0], texts[1]).worst is None
    assert figures(compared(rule, texts[0], texts[2])) == figures(compared(rule, texts[1], texts[2]))


def test_rows_in_any_order_have_columns_with_tolerances_and_numbers_as_names() -> None:
    rule = rule_of("a.txt", EXACTLY, {"2": WIDE}, order=RowOrder.ANY, key=("1",))
    assert agree(rule, "1 1 1\n2 1 1\n", "2 5 1\n1 9 1\n")
    assert not agree(rule, "1 1 1\n2 1 1\n", "2 5 1\n1 9 2\n")


@pytest.mark.parametrize(
    ("key", "data"),
    [(("id",), ROWS), (("other",), ROWS), (("id", "kind"), "id,kind,x\n1\n"), (("id",), "id,id\n1,2\n")],
)
def test_rows_without_one_key_each_cannot_be_read_in_any_order(key: tuple[str, ...], data: str) -> None:
    with pytest.raises(FileUnreadableError, match="expected"):
        compared(rule_of("a.csv", order=RowOrder.ANY, key=key), data, data)


@pytest.mark.parametrize(("name", "limit"), [("CELLS_UNORDERED_MAX", 8), ("ROWS_UNORDERED_MAX", 2)])
def test_rows_in_any_order_are_bounded(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, name, limit)
    with pytest.raises(FileUnreadableError, match=f"up to .*{limit} "):
        compared(rule_of("a.csv", order=RowOrder.ANY, key=("id", "kind")), ROWS, ROWS)


@pytest.mark.parametrize(("module", "name"), [(tables, "CELLS_MAX"), (reading, "LINES_MAX")])
def test_cells_and_lines_are_bounded(module: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, 3)
    assert agree(rule_of("a.txt"), "1\n2\n3\n", "1\n2\n3\n")
    with pytest.raises(FileUnreadableError, match="at most 3"):
        compared(rule_of("a.txt"), "1\n2\n3\n4\n", "1\n2\n3\n4\n")


@pytest.mark.parametrize(("path", "data"), [("a.csv", "t\n1\n"), ("a.csv", "x,x\n1,1\n"), ("a.txt", "1 2\n"), ("a.txt", "x x\n1 2\n")])
def test_column_that_is_not_there_once_is_unreadable(path: str, data: str) -> None:
    with pytest.raises(FileUnreadableError, match="expected exactly one column"):
        files_compare(rule_of(path, columns={"x": LOOSE}), data.encode(), data.encode())


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("a.csv", b""),
        ("a.csv", b"\n\n"),
        ("a.csv", b"\xff\xfe"),
        ("a.csv", b"x\n1\n\xff"),
        ("a.csv", b'x\n"unclosed'),
        ("a.csv", b'x\n"a"b\n'),
        ("a.csv", b"x\n" + b"1" * 200_000),
        ("a.csv", b"x\n" + b"1," * LINE_CHARACTERS_MAX),
        ("a.csv", b"x\n" + b'"\n",' * (LINE_CHARACTERS_MAX // 3)),
        ("a.txt", b""),
        ("a.txt", b"# comments\n@ only\n"),
        ("a.txt", b"\x00\xff"),
        ("a.txt", b"1 " * LINE_CHARACTERS_MAX),
        ("a", b"1"),
        ("a.xyz", b"1"),
    ],
)
def test_file_that_cannot_be_read_is_unreadable_on_either_side(path: str, data: bytes) -> None:
    fine = b"x\n1\n"
    for one, other in ((data, fine), (fine, data)):
        with pytest.raises(FileUnreadableError) as caught:
            files_compare(rule_of(path), one, other)
        assert caught.value.code == "output_unreadable"


def test_file_that_is_too_large_is_unreadable() -> None:
    with pytest.raises(FileUnreadableError, match=f"at most {FILE_BYTES_MAX} bytes; found {FILE_BYTES_MAX + 1}"):
        files_compare(rule_of("a.csv"), b"x", b"x" * (FILE_BYTES_MAX + 1))


@pytest.mark.parametrize("cell", ["1" * 100_000 + "x", "1." + "1" * 100_000 + "e", "+" * 100_000])
def test_hostile_cell_costs_little_time(cell: str) -> None:
    started = time.process_time()
    compared(rule_of("a.csv"), f"x\n{cell}\n", f"x\n{cell}y\n")
    assert time.process_time() - started < 1
