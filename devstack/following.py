"""Following a job for an audience: a line for each thing that happens and which host did it, a bar for each host that computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from client.api import PortalApi
from client.terminal import plain
from client.watching import TERMINAL

Report = Callable[[str], None]

POLL_SECONDS: Final = 0.25
QUARTERS: Final = 4
"""Where there is no terminal for a bar, a line is written whenever a host begins a stage or another quarter of its work."""
_COMPUTING: Final = frozenset({"leased", "running"})


class JobLateError(RuntimeError):
    """The job did not end within the limit; the message says how far it and its replicas came."""


def job_follow(
    api: PortalApi, job_id: str, *, console: Console, report: Report, limit_seconds: float, on_poll: Callable[[], None]
) -> dict[str, Any]:
    """Shows a job until it ends and returns it as it is then. `on_poll` may raise to end the watch.

    Raises JobLateError after `limit_seconds`, and PortalError.
    """
    limit = time.monotonic() + limit_seconds
    columns = (
        TextColumn("           {task.description}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:3.0f} %  {task.fields[stage]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        following = _Following(api, job_id, bars, report, has_bars=console.is_terminal)
        while True:
            on_poll()
            job = following.look()
            if job["state"] in TERMINAL:
                return job
            if time.monotonic() > limit:
                raise JobLateError(f"The job is {job['state']} after {limit_seconds:g} s: {following.summary()}.")
            time.sleep(POLL_SECONDS)


class _Following:
    """What was shown of one job so far."""

    def __init__(self, api: PortalApi, job_id: str, bars: Progress, report: Report, *, has_bars: bool) -> None:
        self._api = api
        self._job_id = job_id
        self._bars = bars
        self._report = report
        self._has_bars = has_bars
        self._last_event = 0
        self._replicas: dict[str, Mapping[str, Any]] = {}
        self._shown: dict[str, tuple[str, int]] = {}
        self._tasks: dict[str, TaskID] = {}

    def look(self) -> dict[str, Any]:
        """Shows what is new, and returns the job."""
        job = self._api.job(self._job_id)  # before its events: the last ones of an ended job are not missed
        new: list[dict[str, Any]] = []
        while page := self._api.job_events(self._job_id, after=self._last_event):
            new += page
            self._last_event = int(page[-1]["id"])
        # After the events: a replica that an event names has its host by now.
        self._replicas = {replica["id"]: replica for replica in self._api.job_replicas(self._job_id)}
        for event in new:
            replica = self._replicas.get(event.get("replica") or "")
            self._report(event_line(event, node=replica["node"] if replica else None))
        for replica in self._replicas.values():
            self._progress_show(replica)
        return job

    def summary(self) -> str:
        """Each replica's host and state."""
        return (
            ", ".join(f"{plain(replica['node'] or 'no host')} {replica['state']}" for replica in self._replicas.values()) or "no replicas"
        )

    def _progress_show(self, replica: Mapping[str, Any]) -> None:
        progress = replica["progress"]
        if replica["state"] not in _COMPUTING or not progress:
            if (task := self._tasks.pop(replica["id"], None)) is not None:
                self._bars.remove_task(task)
            return
        done = float(progress["progress"] or 0.0)
        stage = plain(f"{progress['stage']} {progress['message']}".strip(), characters_max=60)
        if self._has_bars:
            if replica["id"] not in self._tasks:
                self._tasks[replica["id"]] = self._bars.add_task(plain(replica["node"] or "?"), total=1.0, stage="")
            self._bars.update(self._tasks[replica["id"]], completed=done, stage=stage)
            return
        shown = (stage, int(done * QUARTERS))
        if self._shown.get(replica["id"]) != shown:
            self._shown[replica["id"]] = shown
            self._report(f"{plain(replica['node'] or '?')}: {stage}, {done:.0%}")


def event_line(event: Mapping[str, Any], *, node: str | None) -> str:
    """One event of a job's timeline in plain words; `node` is the name of the host that has the event's replica."""
    host = plain(node or "a host")
    told = event["payload"]
    match event["kind"]:
        case "job.queued":
            line = f"job queued: {told.get('copies', '?')} replicas, for hosts of tier {told.get('tier', '?')}"
        case "replica.leased":
            line = f"{host} leased a replica and checks the signed order"
        case "replica.running":
            line = f"{host} runs it in its sandbox"
        case "replica.reported":
            line = f"{host} reported: archive, log and signed receipt are here"
        case "replica.accepted":
            line = f"{host} accepted: {told.get('verdict', '?')}, paid {credits_text(told.get('paid_micro', 0))}"
        case "job.verifying":
            line = "verifying signatures, digests, logs, archives, and agreement"
        case "job.running":
            line = "job running"
        case "job.completed":
            line = f"job completed: {told.get('agreeing', '?')} of {told.get('reported', '?')} agree, quorum {told.get('quorum', '?')}"
        case other:
            details = ", ".join(f"{name} {value}" for name, value in told.items() if isinstance(value, str | int | float))
            line = f"{other}{f' of {host}' if node else ''}{f': {details}' if details else ''}"
    return plain(line)


def credits_text(micro: str | int) -> str:
    """Millionths of a credit as a person reads them."""
    return f"{int(micro) / 1e6:.6f} credits"
