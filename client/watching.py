"""Following a job in a terminal: a line for each stage as it comes, progress bars while replicas run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from client.api import PortalApi
from workers.portal import PortalUnreachableError

POLL_SECONDS = 0.5
TERMINAL = frozenset({"completed", "failed", "cancelled", "disputed"})


def job_watch(
    api: PortalApi, job_id: str, console: Console, *, pause: Callable[[float], None] = time.sleep, limit_seconds: float | None = None
) -> dict[str, Any]:
    """Shows a job until it ends and returns it as it is then. Survives a portal that is away for a while.

    Raises PortalRefusedError, PortalProtocolError, and TimeoutError after `limit_seconds`.
    """
    started = time.monotonic()
    shown = 0
    columns = (TextColumn("  {task.description}"), BarColumn(bar_width=30), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}
        while True:
            try:
                job = api.job(job_id)  # before its events: the last ones of an ended job are not missed
                for event in api.job_events(job_id, after=shown)["events"]:
                    shown = event["id"]
                    console.print(f"  {time.monotonic() - started:6.1f} s  {_event_text(event)}", highlight=False)
                replicas = api.job_replicas(job_id)
            except PortalUnreachableError as error:
                console.print(f"  {time.monotonic() - started:6.1f} s  {error}", highlight=False)
            else:
                for replica in replicas:
                    _bar_update(bars, tasks, replica)
                if job["state"] in TERMINAL:
                    return job
            if limit_seconds is not None and time.monotonic() - started > limit_seconds:
                raise TimeoutError(f"The job is {job['state']} after {limit_seconds:g} s.")
            pause(POLL_SECONDS)


def _bar_update(bars: Progress, tasks: dict[str, TaskID], replica: Mapping[str, Any]) -> None:
    progress = replica.get("progress") or {}
    if not progress or replica["state"] not in {"leased", "running"}:
        if (task := tasks.pop(replica["id"], None)) is not None:
            bars.remove_task(task)
        return
    if replica["id"] not in tasks:
        tasks[replica["id"]] = bars.add_task(str(replica.get("node") or replica["id"][:8]), total=1.0, note="")
    bars.update(tasks[replica["id"]], completed=progress.get("progress") or 0.0, note=f"{progress['stage']} {progress.get('message', '')}")


def _event_text(event: Mapping[str, Any]) -> str:
    """An event as a line: what happened, to which replica, and what it says."""
    replica = f" {event['replica'][:8]}" if event.get("replica") else ""
    details = ", ".join(f"{name} {value}" for name, value in event.get("payload", {}).items() if isinstance(value, str | int | float))
    return f"{event['kind']}{replica}{f': {details}' if details else ''}"
