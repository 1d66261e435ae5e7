"""Kombu transport `nexa+https`: where Celery sees a broker, there is a queue in this process, filled by the lease client.

Why not a broker, and why the long poll is not in here: ARCHITECTURE.md, "Two planes". Consequences, each on purpose:

1. Messages hold a lease id only; the order is in the journal, which says what runs. Acknowledging means nothing, nothing is restored.
2. Nothing can be published: there is no broker behind this that others would read.
3. Waiting for a message blocks in `OrderQueue.get`, which `OrderQueue.close` ends at once, so that a signal is acted on without delay.
"""

from __future__ import annotations

import json
import time
from queue import Empty, SimpleQueue
from typing import Any, Never
from uuid import UUID, uuid4

from kombu.transport import TRANSPORT_ALIASES, virtual

from workers.protocol.strict_base64 import base64_encode

TASK_NAME = "nexa.order_run"
QUEUE_OPTION = "order_queue"
IDLE_SECONDS = 1.0
DECLINED_SECONDS = 0.05


class OrderQueue:
    """Leases on their way from the lease client to Celery's consumer, in this process. Thread-safe; `close` is safe in a signal handler."""

    def __init__(self) -> None:
        # SimpleQueue: its put may interrupt a get of the same thread, which is what a signal handler does.
        self._leases: SimpleQueue[UUID | None] = SimpleQueue()
        self._closed = False

    def put(self, lease_id: UUID) -> None:
        """Hand a lease to Celery."""
        self._leases.put(lease_id)

    def close(self) -> None:
        """Deliver nothing more, and end the wait of whoever waits in `get`."""
        self._closed = True
        self._leases.put(None)

    def get(self, timeout_seconds: float) -> UUID | None:
        """The next lease; None after the time, and at once when closed."""
        if self._closed:
            return None
        try:
            return self._leases.get(timeout=timeout_seconds)
        except Empty:
            return None

    def undelivered(self) -> list[UUID]:
        """Take out what a closed queue still holds."""
        found: list[UUID] = []
        while True:
            try:
                lease_id = self._leases.get_nowait()
            except Empty:
                return found
            if lease_id is not None:
                found.append(lease_id)

    def __len__(self) -> int:
        return self._leases.qsize()


class Channel(virtual.Channel):
    """Reads the process's OrderQueue. Does not publish, store, purge or restore."""

    do_restore = False
    from_transport_options = (*virtual.Channel.from_transport_options, QUEUE_OPTION)
    order_queue: OrderQueue

    def _get_many(self, queues: list[str], timeout: float | None = None) -> None:
        lease_id = self.order_queue.get(IDLE_SECONDS if timeout is None else timeout)
        if lease_id is None or not queues:
            raise Empty
        # Which tier's queue it came from no longer matters: the coordinator has matched it.
        self.connection._deliver(order_message(lease_id, queues[0]), queues[0])

    def _get(self, queue: str, timeout: float | None = None) -> Never:
        raise Empty

    def _put(self, queue: str, message: Any, **_: Any) -> Never:
        raise NotImplementedError(f"A host publishes nothing; found a message for {queue!r}.")

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        """Queues are the coordinator's."""

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return True

    def _size(self, queue: str) -> int:
        return len(self.order_queue)

    def _purge(self, queue: str) -> int:
        return 0

    def _delete(self, queue: str, *args: Any, **kwargs: Any) -> None:
        """Nothing is stored here."""


class Transport(virtual.Transport):
    """One consumer in one process; no connection that could fail: the lease client owns the conversation with the portal."""

    Channel = Channel
    default_port = 0
    can_parse_url = True
    driver_type = "nexa"
    driver_name = "nexa"

    def driver_version(self) -> str:
        return "1"

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Deliver one message. Raises TimeoutError when there is none, without polling in between."""
        began = time.monotonic()
        try:
            self._drain(timeout)
        except Empty:
            if time.monotonic() - began < 0.001:
                # Every channel declined without waiting: no consumer yet, as much prefetched as allowed, or closed.
                time.sleep(min(DECLINED_SECONDS, timeout or DECLINED_SECONDS))
            raise TimeoutError from None

    def _drain(self, timeout: float | None) -> None:
        if self.cycle is None:
            raise Empty
        self.cycle.get(self._deliver, timeout=timeout)


def order_message(lease_id: UUID, queue_name: str) -> dict[str, Any]:
    """The Celery message (task protocol 2) that carries out one lease."""
    body = json.dumps([[str(lease_id)], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return {
        "body": base64_encode(body.encode()),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": TASK_NAME,
            "id": str(lease_id),
            "root_id": str(lease_id),
            "parent_id": None,
            "group": None,
            "argsrepr": f"({str(lease_id)!r},)",
            "kwargsrepr": "{}",
            "ignore_result": True,
            "retries": 0,
        },
        "properties": {
            "correlation_id": str(lease_id),
            "delivery_mode": 1,
            "delivery_info": {"exchange": "", "routing_key": queue_name},
            "delivery_tag": str(uuid4()),
            "body_encoding": "base64",
            "priority": 0,
        },
    }


def transport_register() -> None:
    """Make the schemes known to Kombu."""
    # Kombu cuts the address at its first "+" and looks up what stands before it.
    TRANSPORT_ALIASES["nexa"] = "workers.transport:Transport"
