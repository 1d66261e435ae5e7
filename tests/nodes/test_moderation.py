"""Moderators' acts on nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nodes.errors import NodeQuarantinedError, NodeRevokedError
from nodes.models import Node, NodeState
from nodes.moderation import node_expel, node_quarantine, node_release
from nodes.services import node_pause, node_resume, node_revoke
from people.errors import ActPointlessError, ModeratorInterestError, ModeratorRequiredError, ReasonMissingError
from people.moderation.models import Act
from people.notifications.models import Notification
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, user_make

pytestmark = pytest.mark.django_db

ACTS = (node_quarantine, node_release, node_expel)


def test_a_quarantine_keeps_the_owner_out_until_a_moderator_lifts_it() -> None:
    node, moderator = node_make(user_make())[0], moderator_make()
    assert node_quarantine(node=node, by=moderator, reason="Odd results.").state == NodeState.QUARANTINED
    for act in (node_pause, node_resume):
        with pytest.raises(NodeQuarantinedError):
            act(node=node)
    assert Notification.objects.get().owner == node.owner
    assert node_release(node=node, by=moderator, reason="Memory replaced.").state == NodeState.ACTIVE
    assert [(act.kind, act.reason, act.about_name) for act in Act.objects.order_by("at")] == [
        ("node_quarantined", "Odd results.", node.name),
        ("node_released", "Memory replaced.", node.name),
    ]


def test_what_changes_nothing_is_refused_and_leaves_no_line() -> None:
    node, moderator = node_make(user_make())[0], moderator_make()
    node_pause(node=node)
    with pytest.raises(ActPointlessError, match="paused"):
        node_release(node=node, by=moderator, reason="So be it.")
    node_quarantine(node=node, by=moderator, reason="Odd results.")
    with pytest.raises(ActPointlessError, match="already"):
        node_quarantine(node=node, by=moderator, reason="Odd results.")
    assert Act.objects.count() == 1


def test_nobody_lifts_the_quarantine_of_a_node_of_their_own() -> None:
    moderator = moderator_make()
    node, _ = node_make(moderator)
    node_quarantine(node=node, by=moderator_make(), reason="Odd results.")
    with pytest.raises(ModeratorInterestError):
        node_release(node=node, by=moderator, reason="It is mine.")


@pytest.mark.parametrize("act", ACTS)
def test_a_revoked_node_is_past_every_act(act: Callable[..., Any]) -> None:
    node = node_revoke(node=node_make(user_make())[0])
    with pytest.raises(NodeRevokedError):
        act(node=node, by=moderator_make(), reason="Odd results.")
    assert not Act.objects.exists()


def test_revoking_is_on_record() -> None:
    node = node_make(user_make())[0]
    assert node_expel(node=node, by=moderator_make(), reason="A key that was sold.").state == NodeState.REVOKED
    assert Act.objects.get().kind == "node_revoked"


@pytest.mark.parametrize("act", ACTS)
def test_only_moderators_act_and_only_with_a_reason(act: Callable[..., Any]) -> None:
    node, _ = node_make(user_make())
    if act is node_release:
        Node.objects.filter(pk=node.pk).update(state=NodeState.QUARANTINED)
    before = Node.objects.get(pk=node.pk).state
    for by, reason, error in (
        (user_make(), "Mine.", ModeratorRequiredError),
        (user_make(is_staff=True, is_active=False), "Gone.", ModeratorRequiredError),
        (moderator_make(), " \n", ReasonMissingError),
        (moderator_make(), "x" * 2001, ReasonMissingError),
    ):
        with pytest.raises(error):
            act(node=node, by=by, reason=reason)
    assert Node.objects.get(pk=node.pk).state == before
    assert not Act.objects.exists()
