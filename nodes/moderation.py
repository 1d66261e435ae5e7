"""Moderators' acts on nodes, each with a reason and a line in the trail.

1. Quarantine keeps new work away from a node, and nothing else: what it runs goes on, is reported, judged and paid like any other. It is
   told to pause, its owner why. Only a moderator ends it.
2. Revoking is for good, and the last resort: its key opens nothing from then on, what it runs is lost and unpaid.
3. Nobody lifts the quarantine of a node of their own.
"""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from nodes.errors import NodeRevokedError
from nodes.models import Node, NodeState
from nodes.nudges import nodes_changed
from nodes.services import node_revoke
from nodes.trouble import trouble_tell
from people.errors import ActPointlessError
from people.models import User
from people.moderation.models import ActKind
from people.moderation.trail import act_record, interest_check


@transaction.atomic
def node_quarantine(*, node: Node, by: User, reason: str) -> Node:
    """No work for the node until node_release; its owner is told. Raises NodeRevokedError, ActPointlessError and as act_record."""
    locked = _locked(node)
    if locked.state == NodeState.QUARANTINED:
        raise ActPointlessError("The node is in quarantine already.")
    act_record(by=by, kind=ActKind.NODE_QUARANTINED, about=locked, reason=reason)
    _state_set(locked, NodeState.QUARANTINED)
    text = "A moderator looks at its results. Until that ends it gets no work; write to the operator of the portal if you know why."
    trouble_tell(locked, about=f"quarantined:{timezone.now():%Y%m%d%H%M%S}", subject=f"{locked.name} was quarantined", text=text)
    return locked


@transaction.atomic
def node_release(*, node: Node, by: User, reason: str) -> Node:
    """Ends the quarantine. Raises NodeRevokedError, ActPointlessError, ModeratorInterestError and as act_record."""
    locked = _locked(node)
    interest_check(by, in_account_of=locked.owner)
    if locked.state != NodeState.QUARANTINED:
        raise ActPointlessError(f"The node isn't in quarantine: it is {locked.state}.")
    act_record(by=by, kind=ActKind.NODE_RELEASED, about=locked, reason=reason)
    return _state_set(locked, NodeState.ACTIVE)


@transaction.atomic
def node_expel(*, node: Node, by: User, reason: str) -> Node:
    """Revokes the node for good. Raises NodeRevokedError and as act_record."""
    locked = _locked(node)
    act_record(by=by, kind=ActKind.NODE_REVOKED, about=locked, reason=reason)
    revoked = node_revoke(node=locked)
    transaction.on_commit(lambda: nodes_changed([revoked.owner_id]))
    return revoked


def _locked(node: Node) -> Node:
    locked = Node.objects.select_for_update().get(pk=node.pk)
    if locked.state == NodeState.REVOKED:
        raise NodeRevokedError("This node was revoked, for good. Nothing more can be done to it.")
    return locked


def _state_set(locked: Node, state: NodeState) -> Node:
    locked.state = state
    locked.save(update_fields=["state"])
    transaction.on_commit(lambda: nodes_changed([locked.owner_id]))
    return locked
