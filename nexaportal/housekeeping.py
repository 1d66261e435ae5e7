"""What is forgotten and when: one table, which one task goes through. docs/operations.md explains it to operators.

Each line deletes rows by an index, in batches of a transaction each, and so many at most; what is left is found the next time. One that
fails is logged and holds no other up. Blobs are collected apart (jobs/blobs/collection.py), shard by shard.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final, Protocol

from jobs.services.uploads import uploads_finished_forget, uploads_sweep
from nodes.services import join_tokens_forget, node_samples_forget
from people.forgetting import api_tokens_forget, notifications_forget, sessions_forget
from people.invitations.services import invitations_forget

log = logging.getLogger(__name__)


class Forget(Protocol):
    """Forgets what has had its time, and returns how many rows that were."""

    def __call__(self, *, now: datetime) -> int: ...


HOUSEKEEPING: Final[dict[str, Forget]] = {
    "unfinished uploads": uploads_sweep,
    "finished uploads": uploads_finished_forget,
    "browser sessions": sessions_forget,
    "API tokens": api_tokens_forget,
    "invitations": invitations_forget,
    "join tokens": join_tokens_forget,
    "notifications": notifications_forget,
    "node samples": node_samples_forget,
}


def house_keep(*, now: datetime) -> dict[str, int]:
    """Goes through the table; how many rows of each line were forgotten. A line that failed has no number."""
    forgotten: dict[str, int] = {}
    for name, forget in HOUSEKEEPING.items():
        try:
            forgotten[name] = forget(now=now)
        except Exception:
            log.exception("%s could not be forgotten; the next run tries again", name)
    if done := ", ".join(f"{count} {name}" for name, count in forgotten.items() if count):
        log.info("forgotten: %s", done)
    return forgotten
