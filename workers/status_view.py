"""`nexa status` for people: a few lines on the node, a bar for each lease, and what to do where something is not as it should be."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workers.intent import IntentKind
from workers.protocol.plurals import counted
from workers.status import LeaseStatus, NodeStatus

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_BAR_WIDTH = 24


def status_render(status: NodeStatus, *, now: datetime) -> RenderableType:
    """`now` is aware; times are shown in this machine's zone. Strings of others are shown as plain text without control characters."""
    parts: list[RenderableType] = [_head(status), _facts(status, now)]
    if status.leases:
        parts += ["", _leases(status.leases, now)]
    if status.ended:
        parts += ["", _ended(status)]
    return Group(*parts)


def _head(status: NodeStatus) -> Text:
    owner = f" of {plain(status.owner)}" if status.owner else ""
    queues = ", ".join(status.queues)
    return Text.assemble((plain(status.name), "bold"), f"{owner} at {plain(status.portal_origin)}, tier {status.tier} (queues: {queues})")


def _facts(status: NodeStatus, now: datetime) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("worker", _worker(status))
    table.add_row("portal", _portal(status, now))
    if status.upgrade:
        table.add_row("upgrade", Text(plain(status.upgrade), "yellow" if status.portal.speaks_ours else "red"))
    if status.worker_running and not status.leases:
        table.add_row("no work", _no_work(status))
    elif status.held_by_host and status.no_work is not None:
        table.add_row("no more work", _no_work(status))
    owed = [lease for lease in status.leases if lease.owed_bytes]
    if owed:
        left = sum(lease.owed_bytes - lease.sent_bytes for lease in owed)
        when = "" if status.worker_running else "; the next start of a worker sends them"
        table.add_row("to report", Text(f"{counted(len(owed), 'result')}, {_size(left)} still to send{when}"))
    lent, disk = status.lent, status.disk
    gpus = f", {counted(len(lent.gpus), 'GPU')}" if lent.gpus else ""
    runs = counted(lent.slots, "run")
    table.add_row(
        "lends",
        Text(f"{counted(lent.cpus, 'core')}, {_size(lent.memory_bytes)} of memory, {_size(lent.disk_bytes)} of disk{gpus}; {runs} at once"),
    )
    table.add_row("disk", Text(f"{_size(disk.free_bytes)} free; runs use {_size(disk.work_bytes)}, the cache {_size(disk.cache_bytes)}"))
    return table


def _worker(status: NodeStatus) -> Text:
    until = f" until {status.told_until.astimezone():%Y-%m-%d %H:%M}" if status.told_until else ""
    if not status.worker_running:
        match status.told:
            case IntentKind.DRAIN:
                return Text("drained: stays stopped until `nexa resume`", "yellow")
            case IntentKind.PAUSE:
                return Text(f"not running, and paused{until}: `nexa worker` or its service starts it, `nexa resume` lets it work", "yellow")
            case IntentKind.WORK:
                sent_away = f"the portal sent the last one away: {plain(status.dismissed)}"
                return Text(f"not running: {sent_away if status.dismissed else 'start it with `nexa worker`, or its service'}", "red")
    match status.told:
        case IntentKind.DRAIN:
            return Text("draining: finishes what it has, then stops", "yellow")
        case IntentKind.PAUSE:
            return Text(f"paused{until} by `nexa pause`; `nexa resume` ends that", "yellow")
        case IntentKind.WORK:
            state = "paused by the portal" if status.state == "paused" else status.state
            return Text(state, "green" if state == "working" and not status.held_by_host else "yellow")


def _portal(status: NodeStatus, now: datetime) -> Text:
    portal = status.portal
    if portal.at is None:
        return Text("not asked yet")
    ago = _duration((now - portal.at).total_seconds())
    if not portal.speaks_ours:
        return Text(f"speaks another protocol (asked {ago} ago)", "red")
    if not portal.answers:
        return Text(f"does not answer (tried {ago} ago): {plain(portal.trouble)}", "red")
    if status.worker_running and status.worker_silent(now):
        return Text(f"last answered {ago} ago, and the worker has not asked since: see its log", "red")
    return Text(f"answered {ago} ago", "green")


def _no_work(status: NodeStatus) -> Text:
    if status.no_work is None and status.state == "paused":
        return Text("the portal gives this node none; its page there says why, and resumes it")
    if status.no_work is None:
        return Text("none has been asked for yet" if status.portal.at is None else "asking")
    return Text(f"{plain(status.no_work.message)} ({plain(status.no_work.code)})")


def _leases(leases: tuple[LeaseStatus, ...], now: datetime) -> Table:
    table = Table.grid(padding=(0, 2))
    for lease in leases:
        # Nothing known is an empty bar: a picture that stands still can't pulse.
        bar = ProgressBar(total=1.0, completed=lease.progress or 0.0, width=_BAR_WIDTH)
        percent = "  ? %" if lease.progress is None else f"{lease.progress * 100:3.0f} %"
        said = f"{_size(lease.sent_bytes)} of {_size(lease.owed_bytes)}" if lease.owed_bytes else plain(lease.message)
        elapsed = _duration((now - lease.accepted_at).total_seconds())
        table.add_row(lease.stage, bar, percent, Text(plain(lease.job_type)), Text(plain(lease.image)), elapsed, Text(said))
    return table


def _ended(status: NodeStatus) -> Table:
    table = Table("ended", "job type", "image", "outcome", "portal", box=None, pad_edge=False)
    for row in status.ended:
        when = row.ended_at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if row.ended_at else ""
        table.add_row(*(Text(plain(text)) for text in (when, row.job_type, row.image, row.outcome, row.portal)))
    return table


def plain(text: str) -> str:
    """`text` without what could move a terminal's cursor or forge a line."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _size(size_bytes: float) -> str:
    power = 0
    while size_bytes >= 1024 and power < len(_UNITS) - 1:
        size_bytes, power = size_bytes / 1024, power + 1
    return f"{size_bytes:.1f} {_UNITS[power]}" if power else f"{size_bytes:.0f} bytes"


def _duration(seconds: float) -> str:
    seconds = max(0, int(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60} min"
    return f"{seconds // 86400} days"
