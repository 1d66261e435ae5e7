"""What does not fit in memory: nothing is lost between cache and disk."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from client.audit.books import AcceptedReceipt, Books, JobBooks
from client.audit.findings import Findings
from client.audit.shelves import Heap, Shelf, shelves_open


@given(
    steps=st.lists(st.tuples(st.integers(0, 20), st.none() | st.integers(-(2**80), 2**80)), max_size=200),
    cache_rows=st.integers(1, 7),
)
def test_a_shelf_is_a_dictionary(tmp_path_factory: object, steps: list[tuple[int, int | None]], cache_rows: int) -> None:
    folder = tmp_path_factory.mktemp("shelf")  # type: ignore[attr-defined]
    connection = shelves_open(folder)
    shelf: Shelf[int] = Shelf(connection, "numbers", encode=int, decode=int, cache_rows=cache_rows)
    expected: dict[bytes, int] = {}
    for number, value in steps:
        key = bytes([number])
        if value is None:
            assert shelf.get(key) == expected.get(key)
        else:
            shelf.put(key, value)
            expected[key] = value
    assert dict(shelf.items()) == expected
    connection.close()


def test_a_heap_keeps_every_row(tmp_path: Path) -> None:
    connection = shelves_open(tmp_path)
    heap = Heap(connection, "rows", ("number INTEGER",))
    for number in range(10_000):
        heap.append(number)
    heap.flush()
    assert connection.execute("SELECT count(*), sum(number) FROM rows").fetchone() == (10_000, sum(range(10_000)))
    connection.close()


def test_a_job_is_the_same_after_the_disk(tmp_path: Path) -> None:
    books = Books(tmp_path, Findings())
    job = JobBooks(
        reserver="a" * 32,
        reserved=2**70,
        paid=1,
        payments=2,
        payment_leaf=3,
        payment_at="2027-01-15T08:00:00+00:00",
        refund_leaf=4,
        refused=5,
        formula=("1", "2"),
        quorum=2,
        ruled=True,
        spot=("b" * 32, "0.1", True),
        accepted={"c" * 32: AcceptedReceipt("sha256:d", "sha256:e", "f" * 32, paid=True)},
    )
    books.job_put("0" * 32, job)
    assert [row for _, row in books.jobs.items()] == [job]
    again = books.job("0" * 32)
    assert again == job
    assert again is not job
    assert books.job("1" * 32) == JobBooks()
    books.close()
