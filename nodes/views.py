"""Pages of nodes, for their signed-in owner."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from nodes import selectors
from nodes.models import Node, NodeState
from nodes.services import join_token_create
from people.models import User
from workers.protocol.plurals import counted
from workers.protocol.problems import ProblemError

NODES_MAX: Final = 200
"""On one page; more are read through the API."""
SEEN_SECONDS: Final = 120


@dataclass(frozen=True)
class NodeRow:
    """A node with what its owner asks first: is it there, and why did it get no work."""

    node: Node
    is_seen: bool
    machine: str
    no_work: str

    @property
    def standing(self) -> str:
        """One word: its state, or whether it was heard of lately."""
        if self.node.state != NodeState.ACTIVE:
            return self.node.state
        return "online" if self.is_seen else "silent"


@require_GET
@never_cache
@login_required
def nodes_page(request: HttpRequest) -> HttpResponse:
    """The caller's nodes and how to add one."""
    return render(request, "nodes/list.html", _context(_user_of(request)))


@require_POST
@never_cache
@login_required
def join_token_page(request: HttpRequest) -> HttpResponse:
    """Mints a join token and shows its command, this once: the token is kept nowhere, so there is no page to come back to."""
    owner = _user_of(request)
    try:
        token, text = join_token_create(owner=owner, lifetime_seconds=settings.NEXA_JOIN_TOKEN_SECONDS)
    except ProblemError as error:
        return render(request, "nodes/list.html", {**_context(owner), "refusal": str(error)}, status=error.status)
    minted = {"command": f"nexa join {text}", "expires_at": token.expires_at}
    return render(request, "nodes/list.html", {**_context(owner), "minted": minted})


def _context(owner: User) -> dict[str, Any]:
    now = timezone.now()
    nodes = selectors.nodes_of(owner=owner, limit=NODES_MAX)
    rows = [_row(node, now) for node in nodes]
    return {
        "rows": [row for row in rows if row.node.state != NodeState.REVOKED],
        "revoked": [row for row in rows if row.node.state == NodeState.REVOKED],
        "lifetime_seconds": settings.NEXA_JOIN_TOKEN_SECONDS,
        "now": now,
    }


def _row(node: Node, now: datetime) -> NodeRow:
    is_seen = node.last_seen_at is not None and now - node.last_seen_at <= timedelta(seconds=SEEN_SECONDS)
    no_work = str((node.last_no_work or {}).get("message", ""))
    return NodeRow(node=node, is_seen=is_seen, machine=_machine_of(node.profile), no_work=no_work)


def _machine_of(profile: dict[str, Any]) -> str:
    """Cores, memory, GPUs as the host says them, in one line."""
    parts = [counted(profile.get("cores", 0), "core"), f"{profile.get('memory_bytes', 0) / 10**9:.3g} GB"]
    parts += [f"{gpu.get('name', 'GPU')} {gpu.get('memory_bytes', 0) / 10**9:.3g} GB" for gpu in profile.get("gpus", [])[:4]]
    return ", ".join(parts)


def _user_of(request: HttpRequest) -> User:
    user = request.user
    if not isinstance(user, User):
        raise TypeError("a page without login_required asked for the user")
    return user
