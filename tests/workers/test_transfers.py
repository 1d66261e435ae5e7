"""Transfers at once: as many connections as they are worth, one end for all, and no lock that outlives its holder."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest

from workers.keyed_locks import KeyedLocks
from workers.portal import PortalClient, PortalInterruptedError
from workers.transfers import CONNECTION_BYTES, CONNECTIONS_MAX, Transfer, TransferProgress, transfers_run

ORIGIN = "http://127.0.0.1:9"
WAIT_SECONDS = 10


def test_small_transfers_share_the_connection_that_there_is() -> None:
    portal, seen = PortalClient(ORIGIN, None), []
    transfers_run([Transfer(1000, lambda client, _: seen.append(client)) for _ in range(20)], portal=portal, stop=threading.Event())
    assert seen == [portal] * 20


def test_large_transfers_go_over_a_few_connections_at_once() -> None:
    portal, barrier, clients = PortalClient(ORIGIN, None), threading.Barrier(CONNECTIONS_MAX), []

    def carry(client: PortalClient, _: threading.Event) -> None:
        clients.append(client)
        barrier.wait(WAIT_SECONDS)  # passed only if so many are under way

    transfers_run([Transfer(CONNECTION_BYTES, carry) for _ in range(2 * CONNECTIONS_MAX)], portal=portal, stop=threading.Event())
    assert len({id(client) for client in clients}) == CONNECTIONS_MAX


def test_first_error_ends_the_others_and_is_raised() -> None:
    ended = []

    def wait(_: PortalClient, over: threading.Event) -> None:
        ended.append(over.wait(WAIT_SECONDS))

    def fail(_: PortalClient, __: threading.Event) -> None:
        raise ValueError("as the test wants it")

    with pytest.raises(ValueError, match="as the test wants it"):
        transfers_run(
            [Transfer(CONNECTION_BYTES, wait), Transfer(CONNECTION_BYTES, fail)], portal=PortalClient(ORIGIN, None), stop=threading.Event()
        )
    assert ended == [True]


def test_stop_ends_what_runs_and_begins_nothing_more() -> None:
    stop, begun = threading.Event(), []

    def carry(_: PortalClient, over: threading.Event) -> None:
        begun.append(uuid4())
        stop.set()
        assert over.wait(WAIT_SECONDS)

    with pytest.raises(PortalInterruptedError):
        transfers_run([Transfer(1, carry)] * 3, portal=PortalClient(ORIGIN, None), stop=stop)
    assert len(begun) == 1


def test_no_transfers_are_done_at_once() -> None:
    stop = threading.Event()
    stop.set()
    transfers_run([], portal=PortalClient(ORIGIN, None), stop=stop)


def test_progress_adds_files_up_and_never_passes_the_whole() -> None:
    shown: list[tuple[float, str]] = []
    progress = TransferProgress(3_000_000, lambda fraction, text: shown.append((fraction, text)))
    progress.at("a", 1_000_000)
    progress.at("b", 500_000)
    progress.at("a", 0)
    progress.at("b", 9_000_000)
    assert shown == [
        (1 / 3, "1.0 MB of 3.0 MB"),
        (0.5, "1.5 MB of 3.0 MB"),
        (1 / 6, "500.0 kB of 3.0 MB"),
        (1.0, "3.0 MB of 3.0 MB"),
    ]
    TransferProgress(0, lambda fraction, text: shown.append((fraction, text))).at("empty", 0)
    assert shown[-1] == (1.0, "0 bytes of 0 bytes")


def test_lock_is_let_go_by_an_error_and_taken_by_whoever_waits() -> None:
    locks, cancel, order = KeyedLocks(), threading.Event(), []

    def wait() -> None:
        with locks.held("a", cancel=cancel) as held:
            order.append(held)

    def fail() -> None:
        with locks.held("a", cancel=cancel) as held, locks.held("b", cancel=cancel):
            assert (held, locks.is_held("a"), locks.is_held("c")) == (True, True, False)
            thread.start()
            raise ValueError("inside")

    thread = threading.Thread(target=wait)
    with pytest.raises(ValueError, match="inside"):
        fail()
    thread.join(WAIT_SECONDS)
    assert (order, locks.is_held("a"), locks.is_held("b")) == ([True], False, False)
    cancel.set()
    with locks.held("a", cancel=cancel) as free, locks.held("a", cancel=cancel) as taken:
        assert (free, taken) == (True, False)
