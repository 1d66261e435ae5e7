"""`nexa status`: what the journal says, for people. Shows nothing that the journal does not hold."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from workers.home import NodeIdentity
from workers.journal import Fact, Journal, LeaseRow


def status_render(identity: NodeIdentity, journal: Journal, *, worker_running: bool) -> RenderableType:
    """The node, what runs with a bar for each lease, why there is no work, and the newest results. Raises JournalError."""
    parts: list[RenderableType] = [
        Text.assemble((identity.name, "bold"), f" of {identity.owner or 'its owner'}, {identity.portal}, tier {identity.tier}"),
        Text(_worker_line(journal, worker_running=worker_running)),
    ]
    leases = journal.leases_open()
    if leases:
        parts.append(_bars(leases))
    elif worker_running:
        parts.append(Text(f"No work: {journal.fact(Fact.NO_WORK) or 'none has been asked for yet'}"))
    ended = journal.leases_ended(5)
    if ended:
        table = Table("ended", "job type", "image", "outcome", "portal", box=None, pad_edge=False)
        for row in ended:
            when = row.ended_at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if row.ended_at else ""
            table.add_row(when, row.job_type, row.image, row.failure or "completed", row.ending or "")
        parts.append(table)
    return Group(*parts)


def _worker_line(journal: Journal, *, worker_running: bool) -> str:
    if not worker_running and (dismissed := journal.fact(Fact.DISMISSED)):
        return f"No worker is running here: the portal sent the last one away. {dismissed}"
    if not worker_running:
        return "No worker is running here. Start one with `nexa worker`."
    portal, since = journal.fact(Fact.PORTAL), journal.fact_noted_at(Fact.PORTAL)
    seconds = (datetime.now(UTC) - since).total_seconds() if since else 0.0
    state = journal.fact(Fact.STATE) or "starting"
    if portal is None:
        return f"Worker: {state}; it has not talked to the portal yet."
    if portal == "ok":
        return f"Worker: {state}; the portal answered {seconds:.0f} s ago."
    return f"Worker: {state}; the portal does not answer: {portal}"


def _bars(leases: list[LeaseRow]) -> Progress:
    progress = Progress(
        TextColumn("{task.fields[stage]:>10}"), BarColumn(30), TextColumn("{task.percentage:>3.0f} %"), TextColumn("{task.description}")
    )
    for row in leases:
        what = f"{row.job_type} {row.image} {row.message}".strip()
        task = progress.add_task(what, total=1.0 if row.progress is not None else None, stage=str(row.stage))
        progress.update(task, completed=row.progress or 0.0)
    return progress
