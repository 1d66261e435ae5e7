"""What nodes know of a person who is erased. Keys, and what was signed with them, stay: others' results rest on them."""

from __future__ import annotations

from django.db import transaction

from nodes.models import JoinToken, Node, NodeSample, NodeState
from nodes.nudges import nodes_changed
from people.models import User


def erasure_obstacle(*, person: User) -> str | None:
    """None: what a node runs is lost to its owner only, and other hosts run it."""
    return None


def person_erase(*, person: User) -> None:
    """Revokes the person's nodes, and forgets what they were called, how their machines can be told from others, and what these did."""
    JoinToken.objects.filter(owner=person).delete()  # first, as it waits for a host that joins by one
    NodeSample.objects.filter(node__owner=person).delete()
    for node in Node.objects.select_for_update(no_key=True).filter(owner=person).order_by("pk"):
        node.state = NodeState.REVOKED
        node.name = f"node-{node.key_id.removeprefix('sha256:')[:8]}"
        gpus = [{**gpu, "uuid": ""} for gpu in node.profile.get("gpus", [])]
        node.profile = {**node.profile, "hostname_hint": "", "gpus": gpus}
        node.last_no_work = None
        node.save(update_fields=["state", "name", "profile", "last_no_work"])
    owner_id = person.pk
    transaction.on_commit(lambda: nodes_changed([owner_id]))
