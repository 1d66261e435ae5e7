"""Signs of life, written rarely: of nodes, and of the processes that serve them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Final

from jobs.services.outages import portal_alive_record, silence_permitted
from nodes.models import Node
from workers.protocol.messages.exchange import NoWork

SEEN_SECONDS: Final = 10
"""`last_seen_at` of a node is that exact."""


def node_heard(*, node: Node, no_work: NoWork | None, now: datetime) -> None:
    """Records that a node was heard, and why it got no work. Writes only when that says something new."""
    reason = None if no_work is None else no_work.model_dump()
    is_recent = node.last_seen_at is not None and now - node.last_seen_at < timedelta(seconds=SEEN_SECONDS)
    if is_recent and (reason is None or reason == node.last_no_work):
        return
    changed: dict[str, object] = {"last_seen_at": now}
    if reason is not None:
        changed["last_no_work"] = reason
    Node.objects.filter(pk=node.pk).update(**changed)


class PortalAlive:
    """Calls `portal_alive_record` for one process, and no oftener than needed: all processes write the same row."""

    def __init__(self) -> None:
        self._recorded_at = float("-inf")

    def record(self, *, now: datetime) -> None:
        """As `portal_alive_record`, or nothing, if this process did so a moment ago."""
        if time.monotonic() - self._recorded_at < silence_permitted().total_seconds() / 8:
            return
        portal_alive_record(now=now)
        self._recorded_at = time.monotonic()
