"""The Kombu transport: delivers leases from this process's queue, publishes nothing, waits without polling."""

from __future__ import annotations

import os
import signal
import threading
import time
from uuid import uuid4

import pytest
from kombu import Connection, Consumer, Queue
from kombu.message import Message

from workers.transport import QUEUE_OPTION, OrderQueue, transport_register


def connection_make(orders: OrderQueue) -> Connection:
    transport_register()
    return Connection("nexa+https://portal.example.org", transport_options={QUEUE_OPTION: orders})


def test_lease_arrives_as_a_celery_task() -> None:
    orders, got, lease_id = OrderQueue(), [], uuid4()

    def receive(body: object, message: Message) -> None:
        got.append((body, message.headers["task"]))
        message.ack()

    with connection_make(orders) as connection, Consumer(connection, [Queue("cpu")], callbacks=[receive], accept=["json"]):
        orders.put(lease_id)
        connection.drain_events(timeout=2)
    assert got == [([[str(lease_id)], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}], "nexa.order_run")]


def test_waiting_ends_after_its_time_and_at_once_when_closed() -> None:
    orders = OrderQueue()
    with connection_make(orders) as connection, Consumer(connection, [Queue("cpu")], accept=["json"]):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.3)
        assert 0.25 < time.monotonic() - began < 2
        threading.Timer(0.2, orders.close).start()
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=30)
        assert time.monotonic() - began < 5


def test_closing_from_a_signal_handler_while_waiting() -> None:
    orders = OrderQueue()
    previous = signal.signal(signal.SIGUSR1, lambda *_: orders.close())
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert orders.get(30) is None
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_closed_queue_keeps_what_was_not_delivered() -> None:
    orders, lease_id = OrderQueue(), uuid4()
    orders.put(lease_id)
    orders.close()
    assert orders.get(1) is None
    assert orders.undelivered() == [lease_id]


def test_nothing_can_be_published() -> None:
    with connection_make(OrderQueue()) as connection, pytest.raises(NotImplementedError, match="publishes nothing"):
        connection.Producer(serializer="json").publish({}, routing_key="cpu")


def test_consumer_that_may_take_no_more_does_not_spin() -> None:
    with connection_make(OrderQueue()) as connection:
        began, count = time.monotonic(), 0
        while time.monotonic() - began < 0.5:
            count += 1
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=2)
        assert count < 20
