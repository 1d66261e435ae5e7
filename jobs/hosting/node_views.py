"""Pages of nodes, for their signed-in owner. What is another's is answered like what isn't there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs.hosting.charts import SPANS, charts_of
from jobs.hosting.selectors import EARNED_DAYS, Run, earned, runs_before, runs_now
from jobs.hosting.standing import is_seen, machine_words, no_work_words, standing_of, standing_sentence
from jobs.services.leases import node_leave
from nodes import selectors
from nodes.access import node_or_404
from nodes.models import Node, NodeSample, NodeState
from nodes.services import node_drain, node_pause, node_resume
from nodes.tiers import tier_classify
from people.page_users import user_of
from people.paging import page_of
from workers.protocol.messages.machine import NodeProfile
from workers.protocol.problems import ProblemError

NODES_MAX: Final = 200
REVOKED_MAX: Final = 50
"""On one page, the newest; all are read through the API."""
TOKENS_MAX: Final = 5
PAGE_RUNS: Final = 25
_ACTS: Final[dict[str, tuple[Callable[..., Node], str]]] = {
    "pause": (node_pause, "Paused: it takes no new work until you resume it. What it runs goes on."),
    "drain": (node_drain, "Draining: it finishes what it runs, then its worker ends."),
    "resume": (node_resume, "Resumed: it may take work again. If its worker has ended, start it on the machine."),
}
"""What owners do with a node by one button."""


@dataclass(frozen=True)
class NodeRow:
    """A node with what its owner asks first: is it there, what does it do, and why did it get no work."""

    node: Node
    standing: str
    machine: str
    no_work: str
    runs: list[Run]
    sample: NodeSample | None


@require_GET
@never_cache
@login_required
def nodes_page(request: HttpRequest) -> HttpResponse:
    """The caller's nodes."""
    owner, now = user_of(request), timezone.now()
    living, living_left_out = selectors.nodes_newest(owner=owner, are_revoked=False, limit=NODES_MAX)
    revoked, revoked_left_out = selectors.nodes_newest(owner=owner, are_revoked=True, limit=REVOKED_MAX)
    runs, samples = runs_now(nodes=living), selectors.samples_newest(nodes=living, now=now)
    context = {
        "rows": [
            NodeRow(
                node=node,
                standing=standing_of(node, now=now),
                machine=machine_words(node.profile),
                no_work=no_work_words(node),
                runs=runs[node.pk],
                sample=samples.get(node.pk),
            )
            for node in living
        ],
        "online": sum(is_seen(node, now=now) for node in living),
        "running": sum(len(found) for found in runs.values()),
        "left_out": living_left_out,
        "revoked": revoked,
        "revoked_left_out": revoked_left_out,
        "tokens": selectors.join_tokens_waiting(owner=owner, now=now, limit=TOKENS_MAX),
    }
    return render(request, "nodes/list.html", context)


@require_GET
@never_cache
@login_required
def node_page(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """One node of the caller, whole. `span` is the stretch of its charts, `before` where its history goes on."""
    node, now = node_or_404(owner=user_of(request), node_id=node_id), timezone.now()
    span = SPANS.get(request.GET.get("span", ""), SPANS["hour"])
    page, last = page_of(runs_before(node=node, before=_run_id(request.GET.get("before", "")), limit=PAGE_RUNS + 1), PAGE_RUNS)
    context = {
        **_live(node, now),
        "machine": machine_words(node.profile),
        "tier_reasons": tier_classify(NodeProfile.model_validate(node.profile)).reasons,
        "earned": earned(node=node, now=now),
        "earned_days": EARNED_DAYS,
        "span": span,
        "spans": SPANS.values(),
        "charts": charts_of(node=node, span=span, now=now),
        "history": page,
        "older": last and last.replica.pk,
        "keys": selectors.keys_of(node=node),
    }
    return render(request, "nodes/node.html", context)


@require_GET
@never_cache
@login_required
def node_fragment(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """The part of a node's page that changes from second to second."""
    return render(request, "nodes/_live.html", _live(node_or_404(owner=user_of(request), node_id=node_id), timezone.now()))


@require_POST
@never_cache
@login_required
def node_act(request: HttpRequest, node_id: UUID, act: str) -> HttpResponse:
    """Pauses, drains or resumes a node."""
    node = node_or_404(owner=user_of(request), node_id=node_id)
    if act not in _ACTS:
        raise Http404("There is no such act.")
    service, words = _ACTS[act]
    try:
        service(node=node)
    except ProblemError as error:
        messages.add_message(request, messages.ERROR, str(error), extra_tags="broken")
    else:
        messages.add_message(request, messages.SUCCESS, words, extra_tags="done")
    return redirect("node-page", node_id=node.pk)


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def node_revoke_page(request: HttpRequest, node_id: UUID) -> HttpResponse:
    """GET: what revoking means, and a button. POST: revokes, and gives back what the node runs."""
    node = node_or_404(owner=user_of(request), node_id=node_id)
    if request.method == "GET":
        return render(request, "nodes/revoke.html", {"node": node, "runs": runs_now(nodes=[node])[node.pk]})
    node_leave(node=node, now=timezone.now())
    messages.add_message(request, messages.SUCCESS, f"{node.name} is revoked; its key opens nothing any more.", extra_tags="done")
    return redirect("node-page", node_id=node.pk)


def _live(node: Node, now: datetime) -> dict[str, Any]:
    runs = runs_now(nodes=[node])[node.pk]
    return {
        "node": node,
        "standing": standing_of(node, now=now),
        "sentence": standing_sentence(node, now=now, runs=len(runs)),
        "no_work": no_work_words(node),
        "no_work_code": (node.last_no_work or {}).get("code", ""),
        "is_seen": is_seen(node, now=now),
        "runs": runs,
        "sample": selectors.samples_newest(nodes=[node], now=now).get(node.pk),
        "is_over": node.state == NodeState.REVOKED,
        "upgrade_advised": selectors.upgrade_advised(node),
    }


def _run_id(text: str) -> UUID | None:
    """None for what is none: the newest page."""
    try:
        return UUID(text)
    except ValueError:
        return None
