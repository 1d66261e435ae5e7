"""What the pages of nodes need of the scene: a day of samples, a token that waits, and one with which a node has joined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from jobs.models import Replica
from nodes.models import Node, NodeSample
from nodes.services import join_token_create
from workers.protocol.messages.exchange import LeaseReport, Stage


def nodes_furnish(nodes: Sequence[Node]) -> dict[str, object]:
    """Furnishes the scene's nodes; the ids of the tokens by the names that pages.py has for them."""
    for place, node in enumerate(nodes):
        _samples(node, place)
    first = nodes[0]
    Node.objects.filter(pk=first.pk).update(
        last_no_work={
            "code": "no_jobs_queued",
            "message": "No job is queued for cpu. Jobs of yours are not counted.",
        }
    )
    for replica in Replica.objects.filter(node=first, state="leased"):
        report = LeaseReport(
            lease_id=replica.lease_id or replica.pk,
            stage=Stage.RUNNING,
            progress=0.42,
            elapsed_seconds=312,
            cpu_percent=388,
            memory_bytes=2**30,
        )
        Replica.objects.filter(pk=replica.pk).update(state="running", progress=report.model_dump(mode="json"))
    waiting, _ = join_token_create(owner=first.owner, lifetime_seconds=3600, name="attic-server")
    arrived, _ = join_token_create(owner=first.owner, lifetime_seconds=3600, name="joined-before")
    arrived.node, arrived.used_at = first, timezone.now()
    arrived.save()
    return {"join_waiting": waiting.pk, "join_arrived": arrived.pk}


def _samples(node: Node, place: int) -> None:
    now = timezone.now().replace(second=0, microsecond=0)
    has_gpu = bool(node.profile["gpus"])
    rows = []
    for minute in range(24 * 60):
        if 400 < minute < 460:  # the machine was off
            continue
        wave = math.sin(minute / 37 + place) * 0.5 + 0.5
        rows.append(
            NodeSample(
                node=node,
                minute_at=now - timedelta(minutes=minute),
                cpu_percent=12 + 80 * wave,
                memory_percent=30 + 20 * wave,
                gpu_percent=90 * wave if has_gpu else None,
                cpu_celsius=44 + 30 * wave,
                gpu_celsius=50 + 25 * wave if has_gpu else None,
            )
        )
    NodeSample.objects.bulk_create(rows)
