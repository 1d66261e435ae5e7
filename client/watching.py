"""Following a job in a terminal: a line for each stage as it comes, progress bars while replicas run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from client.api import PortalApi
from client.terminal import plain
from workers.backoff import Backoff
from workers.portal import PortalProtocolError, PortalUnreachableError

POLL_SECONDS: Final = 0.5
AWAY_SECONDS_MAX: Final = 10.0
TERMINAL: Final = frozenset({"completed", "failed", "cancelled", "disputed"})
"""States after which there is nothing to wait for; a dispute waits for a person."""


def job_watch(
    api: PortalApi, job_id: str, console: Console, *, pause: Callable[[float], None] = time.sleep, limit_seconds: float | None = None
) -> dict[str, Any]:
    """Shows a job until it ends and returns it as it is then. Survives a portal that is away for a while.

    Raises PortalRefusedError, PortalProtocolError, and TimeoutError after `limit_seconds`.
    """
    columns = (
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        watching = _Watching(api, job_id, console, bars)
        backoff = Backoff(longest_seconds=AWAY_SECONDS_MAX)
        while True:
            try:
                job = watching.look()
            except PortalUnreachableError as error:
                watching.away(error)
                wait_seconds = backoff.failed()
            else:
                backoff.worked()
                wait_seconds = POLL_SECONDS
                if job["state"] in TERMINAL:
                    return job
            if limit_seconds is not None and watching.elapsed_seconds > limit_seconds:
                raise TimeoutError(f"The job is {watching.state} after {limit_seconds:g} s.")
            pause(wait_seconds)


class _Watching:
    """What was shown of one job so far."""

    def __init__(self, api: PortalApi, job_id: str, console: Console, bars: Progress) -> None:
        self.state = "not seen yet"
        self._api = api
        self._job_id = job_id
        self._console = console
        self._bars = bars
        self._started = time.monotonic()
        self._last_event = 0
        self._is_away = False
        self._tasks: dict[str, TaskID] = {}

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self._started

    def look(self) -> dict[str, Any]:
        """Shows what is new, and returns the job."""
        job = self._api.job(self._job_id)  # before its events: the last ones of an ended job are not missed
        try:
            while events := self._api.job_events(self._job_id, after=self._last_event):
                for event in events:
                    self._last_event = max(self._last_event + 1, int(event["id"]))
                    self._line(event_text(event))
            for replica in self._api.job_replicas(self._job_id):
                self._bar_update(replica)
            self._bars.refresh()  # what was just learnt is shown now, not when the bars' own clock comes round
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PortalProtocolError(f"Expected a job's timeline and replicas; found something else ({type(error).__name__}).") from error
        self._is_away = False
        self.state = job["state"]
        return job

    def away(self, error: PortalUnreachableError) -> None:
        """Says once that the portal is away."""
        if not self._is_away:
            self._line(f"{plain(error)} Waiting for it; the job goes on.")
        self._is_away = True

    def _line(self, text: str) -> None:
        self._console.print(f"  {self.elapsed_seconds:6.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)

    def _bar_update(self, replica: Mapping[str, Any]) -> None:
        progress = replica.get("progress") or {}
        if not progress or replica["state"] not in {"leased", "running"}:
            if (task := self._tasks.pop(replica["id"], None)) is not None:
                self._bars.remove_task(task)
            return
        if replica["id"] not in self._tasks:
            name = plain(replica.get("node") or replica["id"][:8], characters_max=40)
            self._tasks[replica["id"]] = self._bars.add_task(name, total=1.0, note="")
        note = plain(f"{progress['stage']} {progress.get('message') or ''}".rstrip(), characters_max=60)
        self._bars.update(self._tasks[replica["id"]], completed=float(progress.get("progress") or 0.0), note=note)


def event_text(event: Mapping[str, Any]) -> str:
    """An event as a line: what happened, to which replica, and what it says."""
    replica = f" {event['replica'][:8]}" if event.get("replica") else ""
    details = ", ".join(f"{name} {value}" for name, value in event.get("payload", {}).items() if isinstance(value, str | int | float))
    return plain(f"{event['kind']}{replica}{f': {details}' if details else ''}")
