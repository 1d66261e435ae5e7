"""The rotation of a node's key: the old one becomes history, the new one the node's, in one transaction that holds the node's row.

1. The request is signed by a key of the node, and proves that its sender holds the new key (workers/protocol/key_rotation.py).
2. The signing key is the current one: it is retired, and names its successor. A key that ever was a node's can't be rotated to.
3. The signing key was retired by this very rotation, whose answer got lost: the same answer again. By another one: refused.

Leases that the old key took stay the node's. Their receipts verify under the key that took them, and are handed in under the new one.
"""

from __future__ import annotations

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from ledger.items import node_key_log
from ledger.services import account_of
from nodes.authentication import SignedBy
from nodes.errors import KeyRegisteredError, KeyRetiredError
from nodes.models import Node, NodeKey
from workers.protocol.key_rotation import KeyRotation, rotation_verify
from workers.protocol.keys import PublicKey
from workers.protocol.messages.joining import KeyRotationRequest


@transaction.atomic
def node_key_rotate(*, signer: SignedBy, message: KeyRotationRequest) -> Node:
    """The node, with the new key. Idempotent for the same old and new key.

    Raises KeyMalformedError, KeyRetiredError, KeyRegisteredError, and the errors of `rotation_verify`.
    """
    new = PublicKey.from_base64(message.public_key)
    expected = KeyRotation(origin=settings.NEXA_ORIGIN, node_id=signer.node.pk, old_key_id=signer.key.key_id)
    rotation_verify(message.proof, new_key=new, expected=expected)
    node = Node.objects.select_for_update().get(pk=signer.node.pk)
    old = NodeKey.objects.get(pk=signer.key.pk)  # again, under the lock: two rotations may have come at once
    if old.retired_at is not None:
        if old.successor_id != new.key_id:
            raise KeyRetiredError(f"The key {old.key_id} was replaced by another one before. Revoke the node if that was not you.")
        return node
    try:
        with transaction.atomic():
            # In this order a node never has two current keys; that the successor is there is checked at the commit.
            old.retired_at, old.successor_id = timezone.now(), new.key_id
            old.save(update_fields=["retired_at", "successor"])
            NodeKey.objects.create(key_id=new.key_id, node=node, public_key=new.raw)
            node_key_log(node_id=node.pk, key=new, account=account_of(user=node.owner))
    except IntegrityError as error:
        raise KeyRegisteredError(f"The key {new.key_id} is or was a node's already. Make a new one.") from error
    node.key_id, node.public_key = new.key_id, new.raw
    node.clone_seen_at = node.clone_told_at = None
    node.save(update_fields=["key_id", "public_key", "clone_seen_at", "clone_told_at"])
    return node
