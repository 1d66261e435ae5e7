"""Writes of nodes: join tokens, registration, and what owners do with nodes. Moderators' acts are in nodes/moderation.py.

Registration, in order, all in one transaction that holds the join token's row:

1. The token is one of ours. Registered before with this key: the same node again (rule 6). With another key: refused.
2. It has not expired, and its owner's account is open.
3. The engine enforces every limit. One that doesn't is refused at the door, with the token unused: the contributor reads
   why in the terminal where it can be mended, rather than owning a node that never gets work.
4. The machine has a tier (nodes/tiers.py).
5. Neither the key nor the name (among the owner's living nodes) is taken, and the name shows as what it is.
6. Again with the same key and token: nothing new, but the profile, and with it the tier, becomes what the host says now.
   This also after the token's expiry: a host that never saw the answer must be able to ask again.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from ledger.coordinator_key import coordinator_public_key
from ledger.items import node_key_log
from ledger.services import account_of
from nodes.errors import (
    EngineLimitsIgnoredError,
    HostBelowFloorError,
    JoinLifetimeInvalidError,
    JoinTokenExpiredError,
    JoinTokensTooManyError,
    JoinTokenUnknownError,
    JoinTokenUsedError,
    KeyRegisteredError,
    NodeNameTakenError,
    NodeOwnerInactiveError,
    NodeQuarantinedError,
    NodeRevokedError,
)
from nodes.models import JoinToken, Node, NodeKey, NodeSample, NodeState
from nodes.nudges import nodes_changed
from nodes.tiers import queues_of, tier_classify
from people.forgetting import rows_forget
from people.models import User
from people.secret_digests import secret_sha256
from people.services import name_clean
from workers.protocol.join_tokens import JoinTokenContent, join_token_encode
from workers.protocol.keys import PublicKey
from workers.protocol.messages.joining import RegistrationRequest
from workers.protocol.messages.machine import NodeProfile, Tier

JOIN_LIFETIME_SECONDS_MIN: Final = 60
JOIN_LIFETIME_SECONDS_MAX: Final = 7 * 86400
JOIN_TOKENS_PER_OWNER_MAX: Final = 500
"""Unused and not expired; a cluster's owner mints one for each host."""
NODE_NAME_CHARACTERS_MAX: Final = 64
NODE_SAMPLE_HOURS: Final = 48

_SOFTWARE_RECORD: Final = "UPDATE nodes_node SET profile = jsonb_set(profile, '{software_version}', to_jsonb(%s::text)) WHERE id = %s"


@transaction.atomic
def join_token_create(*, owner: User, lifetime_seconds: float, name: str = "") -> tuple[JoinToken, str]:
    """A new join token and its text, which is told here and never again. `name`: what its node is called unless the host says otherwise.

    Raises NameInvalidError, JoinLifetimeInvalidError, JoinTokensTooManyError, NodeNameTakenError.
    """
    name = name_clean(name=name, characters_max=NODE_NAME_CHARACTERS_MAX)
    if not JOIN_LIFETIME_SECONDS_MIN <= lifetime_seconds <= JOIN_LIFETIME_SECONDS_MAX:
        raise JoinLifetimeInvalidError(
            f"Expected {JOIN_LIFETIME_SECONDS_MIN} to {JOIN_LIFETIME_SECONDS_MAX} seconds; found {lifetime_seconds:g}."
        )
    now = timezone.now()
    User.objects.select_for_update().get(pk=owner.pk)  # one mint at a time, so that the limit holds
    if JoinToken.objects.filter(owner=owner, used_at=None, expires_at__gt=now).count() >= JOIN_TOKENS_PER_OWNER_MAX:
        raise JoinTokensTooManyError(f"There are {JOIN_TOKENS_PER_OWNER_MAX} unused join tokens of yours; use some, or let them expire.")
    if name:
        _name_free_check(owner, name)
    secret = secrets.token_urlsafe(32)
    token = JoinToken.objects.create(
        owner=owner,
        name=name,
        secret_sha256=secret_sha256(secret),
        expires_at=now + timedelta(seconds=lifetime_seconds),
    )
    content = JoinTokenContent(portal=settings.NEXA_ORIGIN, coordinator=coordinator_public_key().key_id, secret=secret)
    return token, join_token_encode(content)


def join_token_mint(*, owner: User, lifetime_seconds: float) -> str:
    """The text of a new join token of `owner`: what `nexa join` takes. Raises as join_token_create."""
    return join_token_create(owner=owner, lifetime_seconds=lifetime_seconds)[1]


@transaction.atomic
def node_register(*, message: RegistrationRequest, now: datetime | None = None) -> tuple[Node, bool]:
    """The node of the key in `message`, and whether it is new. The caller has verified that the key signed the message.

    Raises JoinTokenUnknownError, JoinTokenUsedError, JoinTokenExpiredError, NodeOwnerInactiveError,
    NodeRevokedError, EngineLimitsIgnoredError, HostBelowFloorError, KeyRegisteredError, NameInvalidError,
    NodeNameTakenError, KeyMalformedError. After any of them the token is as it was.
    """
    now = now or timezone.now()
    key = PublicKey.from_base64(message.public_key)
    # Without joins: after a wait for the lock, joined rows would still be those from before the wait.
    locked = JoinToken.objects.select_for_update()
    token = locked.filter(secret_sha256=secret_sha256(message.join_token)).first()
    if token is None:
        raise JoinTokenUnknownError("This portal minted no such join token. Mint one, and copy the whole line.")
    if not token.owner.is_active:
        raise NodeOwnerInactiveError("The account of this join token is closed. Write to the operator of the portal.")
    if token.used_at is not None:
        if token.node is None or token.node.key_id != key.key_id:
            raise JoinTokenUsedError("Another host has registered with this join token. Mint one for each host.")
        if token.node.state == NodeState.REVOKED:
            raise NodeRevokedError("This node was revoked. Remove the node's home, then join with a new token.")
        return _profile_store(token.node, message.profile), False
    if token.expires_at <= now:
        raise JoinTokenExpiredError(
            f"The join token expired at {token.expires_at:%Y-%m-%dT%H:%M:%SZ}; it is now {now:%Y-%m-%dT%H:%M:%SZ}. Mint a new one."
        )
    node = _node_create(owner=token.owner, name=_name_of(message, token, key), key=key, profile=message.profile)
    token.used_at = now
    token.node = node
    token.save(update_fields=["used_at", "node"])
    owner_id = token.owner_id
    transaction.on_commit(lambda: nodes_changed([owner_id]))
    return node, True


def node_pause(*, node: Node) -> Node:
    """No further work for the node, until it is resumed; what runs goes on. Idempotent.

    Raises NodeRevokedError, NodeQuarantinedError.
    """
    return _state_set(node, NodeState.PAUSED)


def node_drain(*, node: Node) -> Node:
    """No further work for the node; when what it runs is reported, its worker ends, at each start, until it is resumed.

    Idempotent. Raises NodeRevokedError, NodeQuarantinedError.
    """
    return _state_set(node, NodeState.DRAINING)


def node_resume(*, node: Node) -> Node:
    """Work for the node again; a worker that a drain has ended must be started. Idempotent.

    Raises NodeRevokedError, NodeQuarantinedError.
    """
    return _state_set(node, NodeState.ACTIVE)


@transaction.atomic
def node_revoke(*, node: Node) -> Node:
    """Ends the node's identity for good: its key opens nothing any more, its name is free. Idempotent.

    Leases that it holds are given back by jobs.services.leases: node_leave at once, leases_reap otherwise at its next pass.
    """
    locked = Node.objects.select_for_update().get(pk=node.pk)
    locked.state = NodeState.REVOKED
    locked.save(update_fields=["state"])
    return locked


@transaction.atomic
def _state_set(node: Node, state: NodeState) -> Node:
    """Sets a state that owners may set, from one that they may leave."""
    locked = Node.objects.select_for_update().get(pk=node.pk)
    if locked.state == NodeState.QUARANTINED:
        raise NodeQuarantinedError("A moderator has quarantined this node; write to the operator of the portal.")
    return _state_change(locked, state)


def _state_change(node: Node, state: NodeState) -> Node:
    locked = Node.objects.select_for_update().get(pk=node.pk)
    if locked.state == NodeState.REVOKED:
        raise NodeRevokedError("This node was revoked, for good. Join again with a new key.")
    locked.state = state
    locked.save(update_fields=["state"])
    return locked


def join_tokens_forget(*, now: datetime) -> int:
    """Forgets join tokens, used or not, that expired NEXA_ENDED_DAYS ago, and returns how many."""
    before = now - timedelta(days=settings.NEXA_ENDED_DAYS)
    return rows_forget(JoinToken.objects.filter(expires_at__lt=before), order="expires_at")


def node_samples_forget(*, now: datetime) -> int:
    """Forgets what machines did longer ago than NODE_SAMPLE_HOURS, and returns how many rows that were."""
    old = NodeSample.objects.filter(minute_at__lt=now - timedelta(hours=NODE_SAMPLE_HOURS))
    return old._raw_delete(old.db)


def _name_of(message: RegistrationRequest, token: JoinToken, key: PublicKey) -> str:
    """The host's word, else its owner's, else what the machine calls itself, as far as that is a name. Raises NameInvalidError."""
    stated = name_clean(name=message.name or "", characters_max=NODE_NAME_CHARACTERS_MAX)
    hint = "".join(character for character in message.profile.hostname_hint.split(".")[0] if character.isprintable())[:64]
    return stated or token.name or hint or f"node-{key.key_id.removeprefix('sha256:')[:8]}"


def _name_free_check(owner: User, name: str) -> None:
    if Node.objects.filter(owner=owner, name=name).exclude(state=NodeState.REVOKED).exists():
        raise NodeNameTakenError(f"You have a node named {name!r}. Give another name, or revoke that node first.")


def _node_create(*, owner: User, name: str, key: PublicKey, profile: NodeProfile) -> Node:
    tier = _tier_of(profile)
    try:
        with transaction.atomic():
            node = Node.objects.create(
                owner=owner,
                name=name,
                public_key=key.raw,
                key_id=key.key_id,
                tier=tier,
                queues=list(queues_of(tier)),
                profile=profile.model_dump(mode="json"),
                benchmark_gflops=profile.benchmark_gflops,
            )
            NodeKey.objects.create(key_id=key.key_id, node=node, public_key=key.raw)
            node_key_log(node_id=node.pk, key=key, account=account_of(user=owner))
            return node
    except IntegrityError as error:
        # The constraints decide, so that two registrations at once can't both pass a look beforehand.
        if NodeKey.objects.filter(key_id=key.key_id).exists():
            raise KeyRegisteredError(
                f"The key {key.key_id} is or was a node's already. Use that node's home, or make a new key."
            ) from error
        _name_free_check(owner, name)
        raise


def node_software_record(*, node: Node, version: str) -> None:
    """Keeps in the node's profile which software its host has now; writes only what is new. An empty `version` tells nothing.

    Of the profile nothing else is written: a registration may have brought another one since this node was read.
    """
    if version and version != node.profile.get("software_version"):
        node.profile = {**node.profile, "software_version": version}
        with connection.cursor() as cursor:
            cursor.execute(_SOFTWARE_RECORD, [version, node.pk])


def _profile_store(node: Node, profile: NodeProfile) -> Node:
    tier = _tier_of(profile)
    node.tier, node.queues = tier, list(queues_of(tier))
    node.profile, node.benchmark_gflops = profile.model_dump(mode="json"), profile.benchmark_gflops
    node.save(update_fields=["tier", "queues", "profile", "benchmark_gflops"])
    return node


def _tier_of(profile: NodeProfile) -> Tier:
    """The tier of a machine that may join. Raises EngineLimitsIgnoredError, HostBelowFloorError."""
    if profile.engine.limits_ignored:
        limits = ", ".join(profile.engine.limits_ignored)
        raise EngineLimitsIgnoredError(
            f"{profile.engine.name} {profile.engine.version} would accept these limits and not enforce them: {limits}. "
            "Use Docker, or Podman under cgroup v2, then join again with the same token.",
            limits=list(profile.engine.limits_ignored),
        )
    decision = tier_classify(profile)
    if decision.tier is None:
        raise HostBelowFloorError(f"No tier takes this machine: {decision.reasons[0]}.", reasons=list(decision.reasons))
    return decision.tier
