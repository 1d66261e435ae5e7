"""Signs of life, written rarely: of nodes, and of the processes that serve them."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta
from typing import Final

from django.db import connection

from jobs.services.outages import portal_alive_record, silence_permitted
from nodes.models import Node
from workers.protocol.messages.exchange import MachineLoad, NoWork

HEARD_AGAIN_SECONDS: Final = 10
"""`last_seen_at` of a node is that exact."""


# One statement, as without a sample: an exchange costs no more for it.
_HEARD_WITH_SAMPLE: Final = """
WITH heard AS (
  UPDATE nodes_node SET last_seen_at = %(now)s, last_no_work = coalesce(%(reason)s::jsonb, last_no_work) WHERE id = %(node)s
)
INSERT INTO nodes_nodesample (node_id, minute_at, cpu_percent, memory_percent, gpu_percent, cpu_celsius, gpu_celsius)
VALUES (%(node)s, %(minute)s, %(cpu_percent)s, %(memory_percent)s, %(gpu_percent)s, %(cpu_celsius)s, %(gpu_celsius)s)
ON CONFLICT DO NOTHING
"""


def node_heard(*, node: Node, no_work: NoWork | None, machine: MachineLoad | None = None, now: datetime) -> None:
    """Records that a node was heard, why it got no work, and once a minute what its machine does. Writes only what is new."""
    reason = None if no_work is None else no_work.model_dump()
    is_recent = node.last_seen_at is not None and now - node.last_seen_at < timedelta(seconds=HEARD_AGAIN_SECONDS)
    if is_recent and (reason is None or reason == node.last_no_work):
        return
    minute = now.replace(second=0, microsecond=0)
    if machine is not None and (node.last_seen_at is None or node.last_seen_at < minute):
        told = None if reason is None else json.dumps(reason)
        with connection.cursor() as cursor:
            cursor.execute(_HEARD_WITH_SAMPLE, {"now": now, "reason": told, "node": node.pk, "minute": minute, **machine.model_dump()})
        return
    changed: dict[str, object] = {"last_seen_at": now}
    if reason is not None:
        changed["last_no_work"] = reason
    Node.objects.filter(pk=node.pk).update(**changed)


def node_refused(*, node: Node, reason: NoWork) -> None:
    """Records why a node that asked is not served at all, for its owner. It doesn't count as heard: it can do nothing here."""
    told = reason.model_dump()
    if told != node.last_no_work:
        Node.objects.filter(pk=node.pk).update(last_no_work=told)


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
