"""Which tier queues a worker serves: those asked for with -Q, as far as the coordinator allows this node."""

from __future__ import annotations

from collections.abc import Sequence

from workers.protocol.messages.machine import Tier


class QueuesRefusedError(Exception):
    """A queue was asked for that this node may not serve; the message names it and those that it may."""


def queues_check(asked: Sequence[str] | None, *, allowed: Sequence[Tier]) -> tuple[Tier, ...]:
    """The queues to serve, in the coordinator's order; None or nothing asks for all. Raises QueuesRefusedError."""
    wanted = [name.strip() for name in asked or () if name.strip()]
    refused = [name for name in wanted if name not in list(allowed)]
    if refused:
        raise QueuesRefusedError(
            f"This node may not serve {', '.join(map(repr, refused))}; it may serve {', '.join(allowed)}. "
            "The coordinator set that by the node's profile when it joined; leave out -Q to serve all of them."
        )
    return tuple(tier for tier in allowed if not wanted or tier in wanted)
