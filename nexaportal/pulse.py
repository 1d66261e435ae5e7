"""A sign of life of a Celery worker or of beat: the time of a file, for a container's health check.

A worker touches it with each of its heartbeats, which stop when it hangs or has lost its broker; beat with each task that it sent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery.signals import after_task_publish, heartbeat_sent


def pulse_start(file: Path) -> None:
    """From here on `file` is touched. For the process's whole life."""

    def touch(**_: Any) -> None:
        file.touch()

    for signal in (heartbeat_sent, after_task_publish):
        signal.connect(touch, weak=False)
