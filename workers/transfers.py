"""Several transfers at once, over a few connections, that end together; and how far they have come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.filesize import decimal

from workers.portal import PortalClient, PortalInterruptedError

CONNECTIONS_MAX: Final = 4
CONNECTION_BYTES: Final = 4 * 2**20
"""One more connection for each of these: what is small goes over one, since making a second takes longer than it saves."""

_LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Transfer:
    """A file on its way. `carry` gets a client for its thread, and an event after which it need not go on."""

    size_bytes: int
    carry: Callable[[PortalClient, threading.Event], None]


def transfers_run(transfers: Sequence[Transfer], *, portal: PortalClient, stop: threading.Event) -> None:
    """Carry all of them out, over `portal` and clones of it, which nobody else may use meanwhile; none is left running at the end.

    The first error breaks the others off and is raised. So does `stop`, with PortalInterruptedError: at once while a read blocks, and
    within the limit of connecting otherwise.
    """
    count = min(CONNECTIONS_MAX, len(transfers), 1 + sum(transfer.size_bytes for transfer in transfers) // CONNECTION_BYTES)
    clients = [portal if number == 0 else portal.clone() for number in range(count)]
    waiting, errors, over = iter(tuple(transfers)), list[Exception](), threading.Event()
    threads = [
        threading.Thread(target=_work, args=(waiting, client, over, errors), name="nexa-transfer", daemon=True) for client in clients
    ]
    for thread in threads:
        thread.start()
    while running := [thread for thread in threads if thread.is_alive()]:
        if stop.is_set():
            over.set()
        if over.is_set():
            # Again and again: between two calls there is nothing to interrupt.
            for client in clients:
                client.interrupt()
        running[0].join(_LOOK_SECONDS)
    for clone in clients[1:]:
        clone.close()
    if errors:
        raise errors[0]
    if over.is_set():
        raise PortalInterruptedError("The transfers were given up.")


def _work(waiting: Iterator[Transfer], client: PortalClient, over: threading.Event, errors: list[Exception]) -> None:
    try:
        while not over.is_set() and (transfer := next(waiting, None)):
            transfer.carry(client, over)
    except Exception as error:
        # Whatever it is, the caller gets it.
        errors.append(error)
        over.set()


class TransferProgress:
    """How much of several files has arrived, told to `show` as a fraction and in words. Thread-safe."""

    def __init__(self, total_bytes: int, show: Callable[[float, str], None]) -> None:
        self._total_bytes = total_bytes
        self._show = show
        self._done: dict[str, int] = {}
        self._mutex = threading.Lock()

    def at(self, part: str, done_bytes: int) -> None:
        """Of the file `part`, so much has arrived; less than before when it has to begin anew."""
        with self._mutex:
            self._done[part] = done_bytes
            done_bytes = min(sum(self._done.values()), self._total_bytes)
        self._show(done_bytes / self._total_bytes if self._total_bytes else 1.0, f"{decimal(done_bytes)} of {decimal(self._total_bytes)}")
