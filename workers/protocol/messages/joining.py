"""How a node joins, changes its key, and learns who its coordinator is."""

from __future__ import annotations

from typing import Annotated, Final
from uuid import UUID

from pydantic import Field, StringConstraints

from workers.protocol.digests import Digest
from workers.protocol.messages.base import Json, Message, ShortText
from workers.protocol.messages.machine import NodeProfile, Tier

PREDECESSORS_MAX: Final = 64
"""Earlier keys of one coordinator."""


NodeName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")]


class RegistrationRequest(Message):
    """`POST /api/v1/nodes`, signed (RFC 9421) with the key that it registers.

    `name` None: the one that was chosen with the join token; if none was, the profile's `hostname_hint`.
    """

    protocol_version: int
    join_token: ShortText
    name: NodeName | None = None
    public_key: str
    profile: NodeProfile


class RegistrationAnswer(Message):
    """`tier` is what the coordinator made of the profile; `queues` are the tiers the node may serve, its own first."""

    protocol_version: int
    node_id: UUID
    key_id: Digest
    name: str
    owner: str
    tier: Tier
    queues: tuple[Tier, ...]
    coordinator_key: str
    origin: str


class KeyRotationRequest(Message):
    """`POST /api/v1/nodes/self/key`, signed with the key that is being replaced. `proof`: see workers/protocol/key_rotation.py."""

    protocol_version: int
    public_key: str
    proof: dict[str, Json]


class KeyRotationAnswer(Message):
    """`key_id` is the node's key from now on. The same request again gives the same answer."""

    protocol_version: int
    node_id: UUID
    key_id: Digest


class PredecessorKey(Message):
    """A key that the coordinator had; `succession` is the envelope in which it names the next one (workers/protocol/succession.py)."""

    public_key: str
    succession: dict[str, Json]


class CoordinatorInfo(Message):
    """`GET /api/v1/coordinator`, public and unsigned: the host compares `key_id` with the fingerprint in its join token.

    `predecessors` are the keys that it had before, oldest first.
    """

    protocol_versions: tuple[int, ...]
    origin: str
    public_key: str
    key_id: Digest
    predecessors: tuple[PredecessorKey, ...] = Field(default=(), max_length=PREDECESSORS_MAX)
