"""Two workers with one key: noted when it is seen, told to the owner later, as a host waits for the answer meanwhile."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from nodes.models import Node, NodeState
from nodes.trouble import trouble_tell

log = logging.getLogger(__name__)

CLONE_NOTED_AGAIN: Final = timedelta(minutes=1)
"""`clone_seen_at` of a node is that exact, however often the copy asks."""
CLONE_TOLD_AGAIN: Final = timedelta(days=1)
"""While a copy goes on, its owner is told once in this time."""


def clone_record(*, node: Node, now: datetime) -> None:
    """Notes that two workers use the node's key. Writes only when that says something new."""
    if node.clone_seen_at is None or now - node.clone_seen_at >= CLONE_NOTED_AGAIN:
        log.warning("node %s: two workers use its key", node.pk)
        Node.objects.filter(pk=node.pk).update(clone_seen_at=now)


def clones_tell(*, now: datetime | None = None) -> int:
    """Tells owners of nodes with copies who have not heard of it today; returns of how many."""
    untold = Q(clone_told_at=None) | Q(clone_seen_at__gte=F("clone_told_at") + CLONE_TOLD_AGAIN)
    nodes = Node.objects.filter(untold, clone_seen_at__isnull=False).exclude(state=NodeState.REVOKED).order_by("pk")
    return sum(_tell(node, now or timezone.now()) for node in nodes)


@transaction.atomic
def _tell(node: Node, now: datetime) -> bool:
    # Taken before it is told: another process that looks meanwhile tells nothing.
    if not Node.objects.filter(pk=node.pk, clone_told_at=node.clone_told_at).update(clone_told_at=now):
        return False
    text = (
        f"Two workers use the key {node.key_id}. The one that started last goes on; the other was refused. If you copied or moved the "
        "node's home, stop the worker that should not run and remove its folder. If you did not, somebody else may have the key: run "
        "`nexa key rotate` on the machine that is yours, which makes every copy worthless, or revoke the node."
    )
    trouble_tell(node, about=f"clone:{now:%Y-%m-%d}", subject=f"{node.name}: its key is used in two places", text=text)
    return True
