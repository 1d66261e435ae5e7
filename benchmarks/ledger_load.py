"""What the ledger does under load, measured inside a process of the portal; prints JSON. benchmarks/ledger.py starts it.

seconds of processor per job for its three movements, in Python and in PostgreSQL, a thousand jobs at a time
items per second of the sequencer, files included
seconds from an item's commit to its published checkpoint, while items come at RATE_PER_SECOND and the sequencer runs as beat runs it
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Final
from uuid import uuid4

import django
import psutil
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

django.setup()

from ledger.checkpoints import checkpoint_publish  # noqa: E402 -- models want settings first
from ledger.models import Account, LogItem  # noqa: E402
from ledger.movements import movements_post  # noqa: E402
from ledger.services import Payment, grant_of, payment_of, refund_of, reservation_of  # noqa: E402

JOBS: Final = 1000
ROUNDS: Final = 5
BACKLOG_ITEMS: Final = 50_000
RATE_PER_SECOND: Final = 10_000
LOAD_SECONDS: Final = 8


def main() -> None:
    call_command("migrate", verbosity=0)
    found = {**_movements(), **_integration(), **_lag()}
    json.dump(found, sys.stdout)


def _movements() -> dict[str, float]:

    people = [Account.objects.create(kind="person") for _ in range(20)]
    movements_post([grant_of(to=one, amount_micro=10**12, reason="bench", idempotency_key=str(one.pk)) for one in people])
    digest, formula = "sha256:" + "ab" * 32, {"version": "1", "estimated_flops": "3600000000000.0", "calibration_ratio": "1.0"}
    server = psutil.Process(connection.connection.info.backend_pid)
    before, began = server.cpu_times(), time.process_time()
    for _ in range(ROUNDS):
        jobs = [(uuid4(), people[number % 4], people[4 + number % 16]) for number in range(JOBS)]
        with transaction.atomic():
            movements_post([reservation_of(account=owner, job_id=job, amount_micro=10_000) for job, owner, _ in jobs])
        with transaction.atomic():
            paid = [(job, owner, Payment(node, uuid4(), digest, digest, 1250)) for job, owner, node in jobs]
            movements = [payment_of(job_id=job, payment=payment, formula=formula) for job, _, payment in paid]
            refunds = [refund_of(account=owner, job_id=job, amount_micro=8750) for job, owner, _ in paid]
            movements_post([*movements, *(refund for refund in refunds if refund)])
    python, after = time.process_time() - began, server.cpu_times()
    postgres = after.user + after.system - before.user - before.system
    return {"python_seconds_per_job": python / JOBS / ROUNDS, "postgres_seconds_per_job": postgres / JOBS / ROUNDS}


def _integration() -> dict[str, float]:

    checkpoint_publish()
    _items_insert(BACKLOG_ITEMS)
    began = time.monotonic()
    checkpoint_publish()
    return {"integrated_per_second": BACKLOG_ITEMS / (time.monotonic() - began)}


def _lag() -> dict[str, float]:
    """The slowest of each batch's items is its first: the lag is taken from there, for each of them."""

    interval_seconds = settings.NEXA_CHECKPOINT_SECONDS
    batches: list[tuple[float, int]] = []
    lags: list[float] = []
    ended = threading.Event()

    def insert() -> None:
        due = time.monotonic()
        for _ in range(LOAD_SECONDS * 10):
            _items_insert(RATE_PER_SECOND // 10)
            batches.append((time.monotonic(), LogItem.objects.order_by("-pk").values_list("pk", flat=True)[0]))
            due += 0.1
            time.sleep(max(0.0, due - time.monotonic()))
        ended.set()
        connection.close()

    thread = threading.Thread(target=insert)
    thread.start()
    while not (ended.is_set() and not batches):
        began = time.monotonic()
        checkpoint_publish()
        published = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SELECT max(item_id) FROM ledger_logleaf")
            (newest,) = cursor.fetchone()
        while batches and batches[0][1] <= newest:
            lags.append(published - batches.pop(0)[0])
        time.sleep(max(0.0, began + interval_seconds - time.monotonic()))
    thread.join()
    lags.sort()
    return {"lag_seconds_p99": lags[int(len(lags) * 0.99)], "lag_seconds_p50": lags[len(lags) // 2]}


def _items_insert(count: int) -> None:
    """Items of the size of an entry's leaf."""

    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger_logitem (kind, key, data, created_at)"
            " SELECT 'bench', 'bench:' || gen_random_uuid(), convert_to('{\"bench\":\"' || repeat('x', 600) || '\"}', 'UTF8'), now()"
            " FROM generate_series(1, %s)",
            [count],
        )


if __name__ == "__main__":
    main()
