"""Whatever a log holds, the rules end with findings and never with an exception."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.audit.books import Books
from client.audit.closing_rules import closing_check
from client.audit.findings import MESSAGE_CHARACTERS_MAX, Findings
from client.audit.leaf_rules import leaf_check
from tests.factories.logs import Leaf, leaf_encode, log_make

HONEST = log_make().leaves

HOSTILE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=60),
    st.sampled_from(
        [
            "",
            "-0",
            "9" * 19,
            "-" + "9" * 19,
            "0001-01-01T00:00:00+23:59",
            "9999-12-31T23:59:59-23:59",
            "00000000-0000-4000-8000-000000000001",
            "00000000-0000-4000-8000-000000000002",
            "sha256:" + "0" * 64,
            "1e308",
            "5e-324",
            "1.0",
            "A" * 86 + "==",
            "AAAA",
        ]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)


def paths_of(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every member and element of a document is."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for name, one in inner for path in [(*before, name), *paths_of(one, (*before, name))]]


@st.composite
def hostile_logs(draw: st.DrawFn) -> list[Leaf]:
    """An honest log in which members are replaced, and leaves dropped, repeated and moved."""
    leaves = copy.deepcopy(HONEST)
    for _ in range(draw(st.integers(1, 6))):
        leaf = draw(st.sampled_from(leaves))
        *folder, name = draw(st.sampled_from(paths_of(leaf)))
        place: Any = leaf
        for one in folder:
            place = place[one]
        place[name] = draw(HOSTILE)
    for _ in range(draw(st.integers(0, 3))):
        leaf = leaves.pop(draw(st.integers(0, len(leaves) - 1)))
        for _ in range(draw(st.integers(0, 2))):
            leaves.insert(draw(st.integers(0, len(leaves))), leaf)
    return leaves


def judged(data: list[bytes]) -> Findings:
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder:
        books = Books(Path(folder), findings)
        for index, one in enumerate(data):
            leaf_check(books, index, one)
        closing_check(books)
        books.close()
    assert all(len(finding.message) <= MESSAGE_CHARACTERS_MAX for finding in findings.kept)
    return findings


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(hostile_logs())
def test_an_honest_log_with_anything_changed_in_it(leaves: list[Leaf]) -> None:
    judged([leaf_encode(leaf) for leaf in leaves])


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_arbitrary_bytes(data: list[bytes]) -> None:
    assert judged(data).counts.total() == len(data)


def test_times_at_the_ends_of_the_calendar() -> None:
    for at in ("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00", "0001-01-01T00:00:00+23:59"):
        judged([leaf_encode({**leaf, "at": at}) for leaf in HONEST[:-4]])
