"""What hosts and owners of nodes are refused, each with its own code.

    ProblemError
    ├── NodeUnknownError           401 node_unknown
    ├── SignatureReplayedError     401 signature_replayed
    ├── NodeRevokedError           403 node_revoked
    ├── NodeOwnerInactiveError     403 account_inactive
    ├── NodeQuarantinedError       409 node_quarantined
    ├── KeyRetiredError            403 key_retired
    ├── SessionSupersededError     409 session_superseded
    ├── NodeNameTakenError         409 node_name_taken
    ├── KeyRegisteredError         409 key_registered
    ├── JoinTokenUnknownError      403 join_token_unknown
    ├── JoinTokenExpiredError      403 join_token_expired
    ├── JoinTokenUsedError         409 join_token_used
    ├── JoinLifetimeInvalidError   400 join_lifetime_invalid
    ├── JoinTokensTooManyError     409 join_tokens_too_many
    ├── HostBelowFloorError        422 host_below_floor
    └── EngineLimitsIgnoredError   422 engine_limits_ignored

What is wrong with a signature itself is told by `workers.protocol.errors`.
"""

from __future__ import annotations

from typing import ClassVar

from workers.protocol.problems import ProblemError


class NodeUnknownError(ProblemError):
    """No node was ever registered with this key."""

    code: ClassVar[str] = "node_unknown"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The node is not known"


class SignatureReplayedError(ProblemError):
    """This very signature was accepted before."""

    code: ClassVar[str] = "signature_replayed"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The signed request was seen before"


class NodeRevokedError(ProblemError):
    """The node's owner revoked it; its key never comes back."""

    code: ClassVar[str] = "node_revoked"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The node was revoked"


class NodeOwnerInactiveError(ProblemError):
    """The account that owns the node, or the join token, is closed."""

    code: ClassVar[str] = "account_inactive"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The account is not active"


class NodeQuarantinedError(ProblemError):
    """A moderator has set the node apart; only a moderator ends that."""

    code: ClassVar[str] = "node_quarantined"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The node is quarantined"


class KeyRetiredError(ProblemError):
    """The key was the node's, until a rotation gave it another."""

    code: ClassVar[str] = "key_retired"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The key was replaced"


class SessionSupersededError(ProblemError):
    """A worker comes back after another one with the same key has taken its place."""

    code: ClassVar[str] = "session_superseded"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "Another worker uses this key"


class NodeNameTakenError(ProblemError):
    """The owner has another node of this name."""

    code: ClassVar[str] = "node_name_taken"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The node's name is taken"


class KeyRegisteredError(ProblemError):
    """The key belongs to a node that another token registered."""

    code: ClassVar[str] = "key_registered"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The key is registered already"


class JoinTokenUnknownError(ProblemError):
    """This portal minted no such token."""

    code: ClassVar[str] = "join_token_unknown"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The join token is not known"


class JoinTokenExpiredError(ProblemError):
    """The token was not used in time."""

    code: ClassVar[str] = "join_token_expired"
    status: ClassVar[int] = 403
    title: ClassVar[str] = "The join token has expired"


class JoinTokenUsedError(ProblemError):
    """Another host has registered with the token."""

    code: ClassVar[str] = "join_token_used"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The join token was used"


class JoinLifetimeInvalidError(ProblemError):
    """A join token would live too short or too long."""

    code: ClassVar[str] = "join_lifetime_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The join token's lifetime is not valid"


class JoinTokensTooManyError(ProblemError):
    """The owner has as many unused tokens as one may have."""

    code: ClassVar[str] = "join_tokens_too_many"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "There are too many unused join tokens"


class HostBelowFloorError(ProblemError):
    """The machine meets the floors of no tier; `reasons` says what it lacks."""

    code: ClassVar[str] = "host_below_floor"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The machine is too small"


class EngineLimitsIgnoredError(ProblemError):
    """The container engine would accept limits and not enforce them; `limits` names them."""

    code: ClassVar[str] = "engine_limits_ignored"
    status: ClassVar[int] = 422
    title: ClassVar[str] = "The container engine doesn't enforce limits"
