"""The task that does nothing, in an app of its own: what a plain Celery job costs on this machine, against which ours is held."""

from __future__ import annotations

import os
from typing import Final

from celery import Celery

QUEUE: Final = "noop"

app: Final = Celery("noop", broker=os.environ.get("NEXA_BENCH_BROKER_URL", ""))
app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, worker_prefetch_multiplier=64)


@app.task(name="noop")
def noop() -> None:
    """Nothing; Celery itself counts."""
