"""How a node stands, in a word and a sentence each: for its rows and its page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from nodes.models import Node, NodeState
from workers.protocol.plurals import counted
from workers.protocol.validation import ProtocolUnsupportedError

SEEN_SECONDS: Final = 120
"""A node counts as online when its last exchange is at most this long ago."""
GPUS_NAMED: Final = 4

_SENTENCES: Final = {
    NodeState.PAUSED: "Paused here: it takes no new work; what it runs goes on.",
    NodeState.DRAINING: "Draining: it takes no new work, finishes and reports what it runs, and then its worker ends.",
    NodeState.QUARANTINED: "A moderator has set this node apart and looks at its results; nothing is asked of it meanwhile.",
    NodeState.REVOKED: "Revoked for good: its key opens nothing any more. What it earned stays yours.",
}


def standing_of(node: Node, *, now: datetime) -> str:
    """Its state; of an active one, whether it was heard of lately."""
    if node.state != NodeState.ACTIVE:
        return node.state
    return "online" if is_seen(node, now=now) else "silent"


def is_seen(node: Node, *, now: datetime) -> bool:
    return node.last_seen_at is not None and now - node.last_seen_at <= timedelta(seconds=SEEN_SECONDS)


def standing_sentence(node: Node, *, now: datetime, runs: int) -> str:
    """What is so, and what to do about it."""
    state = NodeState(node.state)
    if state != NodeState.ACTIVE:
        return _SENTENCES[state]
    if not is_seen(node, now=now) and (node.last_no_work or {}).get("code") == ProtocolUnsupportedError.code:
        return f"It asks for work in a protocol that is not spoken here. {no_work_words(node)}"
    if node.last_seen_at is None:
        return "It has joined and not asked for work yet: start it on the machine with `nexa worker`, or its service."
    if not is_seen(node, now=now):
        return "Nothing was heard of it: the machine is off, its worker is stopped, or its network is down. `nexa status` there says which."
    if runs:
        return "At work." if runs == 1 else f"At work: {runs} runs at once."
    return no_work_words(node) or "It asks for work and waits for what suits it."


def no_work_words(node: Node) -> str:
    """The newest reason why it got none, as it was told; "" after it got some."""
    return str((node.last_no_work or {}).get("message", ""))


def machine_parts(profile: Mapping[str, Any]) -> list[str]:
    """What the host says it is, a few words each: cores and memory, then its GPUs, alike ones together."""
    gpus = [f"{gpu.get('name', 'GPU')} {gpu.get('memory_bytes', 0) / 10**9:.3g} GB" for gpu in profile.get("gpus", ())]
    return [
        f"{counted(profile.get('cores', 0), 'core')}, {profile.get('memory_bytes', 0) / 10**9:.3g} GB",
        *(f"{gpus.count(gpu)} x {gpu}" if gpus.count(gpu) > 1 else gpu for gpu in list(dict.fromkeys(gpus))[:GPUS_NAMED]),
    ]


def machine_words(profile: Mapping[str, Any]) -> str:
    """The same in one line."""
    return ", ".join(machine_parts(profile))
