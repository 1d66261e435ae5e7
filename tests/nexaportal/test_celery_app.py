"""What the Celery app adds to Celery."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from devstack.stack import CHECKOUT
from tests.acceptance.traces import wait_for

WORKER = """
import time
from billiard import Process
from celery.signals import beat_embedded_init
import nexaportal.celery

def beat():
    beat_embedded_init.send(sender=None)
    print(__import__("os").getpid(), flush=True)
    time.sleep(60)

process = Process(target=beat)
process.start()
time.sleep(60)
"""


def test_beat_within_a_worker_ends_with_it_also_where_the_worker_is_killed() -> None:
    environment = {**os.environ, "NEXA_ROLE": "host"}
    with subprocess.Popen([sys.executable, "-c", WORKER], cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        beat = Path("/proc") / worker.stdout.readline().strip()
        assert (beat / "cmdline").exists()
        worker.send_signal(signal.SIGKILL)
    wait_for(lambda: not beat.exists(), limit_seconds=20, what=lambda: "the end of beat")
