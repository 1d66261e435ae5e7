"""Requests of hosts: signed by RFC 9421, by a registered key, or by the key that is being registered.

1. The signature names a key; the key is looked up, never taken from the request (registration apart, which proves
   that the sender has the key that it registers).
2. The signature verifies over this very request, made at most a minute ago (workers/protocol/http_signatures.py).
3. Its nonce was not seen before. The memory is Redis: without Redis requests are still accepted, because every
   mutation is idempotent and a replay within the minute changes nothing.
4. The node is not revoked, its owner's account is open, and the key was not replaced by a rotation (but the rotation itself may be asked
   for again). Paused and quarantined nodes are known; they get no work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

from django.contrib.auth.models import AnonymousUser
from django.core.cache import cache
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from redis.exceptions import RedisError
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from nodes.errors import KeyRetiredError, NodeOwnerInactiveError, NodeRevokedError, NodeUnknownError, SignatureReplayedError
from nodes.models import Node, NodeKey, NodeState
from nodes.selectors import node_key
from workers.protocol.http_signatures import (
    TOLERANCE_SECONDS,
    VerifiedRequest,
    request_key_id,
    request_verify,
)
from workers.protocol.keys import PublicKey
from workers.protocol.messages.joining import RegistrationRequest
from workers.protocol.validation import message_parse

REGISTRATION_BYTES_MAX: Final = 128 * 1024
Scheme = Literal["http", "https"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SignedBy:
    """Who signed a request: the node, its owner fetched along, with which key, and when by its clock (seconds since 1970)."""

    node: Node
    key: NodeKey
    signed_at: int


def node_authenticate(
    *,
    method: str,
    authority: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    scheme: Scheme = "https",
    retired: bool = False,
) -> SignedBy:
    """Who signed this request. `path` and `query` as they came over the wire; `retired`: keys that were replaced are welcome too.

    Raises NodeUnknownError, NodeRevokedError, NodeOwnerInactiveError, KeyRetiredError, SignatureReplayedError, and the errors of
    `http_signatures.request_key_id` and `request_verify`.
    """
    key_id = request_key_id(headers)
    key = node_key(key_id=key_id)
    if key is None:
        raise NodeUnknownError(f"No node has the key {key_id}. Join with a token of this portal first.")
    verified = request_verify(
        method=method,
        authority=authority,
        path=path,
        query=query,
        headers=headers,
        body=body,
        key=PublicKey(bytes(key.public_key)),
        now=int(time.time()),
        scheme=scheme,
    )
    node = key.node
    # After the signature: what a node's state is, is told to the node only.
    if node.state == NodeState.REVOKED:
        raise NodeRevokedError("This node was revoked. Remove the node's home, then join with a new token.")
    if not node.owner.is_active:
        raise NodeOwnerInactiveError("The account that owns this node is closed. Write to the portal's operator.")
    if key.retired_at is not None and not retired:
        raise KeyRetiredError(
            f"The key {key_id} was replaced on {key.retired_at:%Y-%m-%d %H:%M} UTC. If you rotated it elsewhere, this copy of the "
            "node's home is worthless: remove it. If `nexa key rotate` was interrupted here, run it again. If neither, revoke the node."
        )
    _replay_check(verified)
    return SignedBy(node, key, verified.created)


def request_parts(request: HttpRequest) -> dict[str, Any]:
    """The arguments of node_authenticate and request_verify but the body, of a Django request.

    Under ASGI the path is the one on the wire; WSGI servers only tell the decoded one, which is encoded again.
    """
    raw = request.scope.get("raw_path") if isinstance(request, ASGIRequest) else None
    return {
        "method": request.method or "",
        "authority": request.get_host(),
        "path": raw.decode("latin-1") if raw else quote(request.path, safe="/:;=@&+$,-_.!~*'()"),
        "query": request.META.get("QUERY_STRING", ""),
        "headers": request.headers,
        "scheme": "https" if request.is_secure() else "http",
    }


def signer_of_request(request: HttpRequest, *, body: bytes, retired: bool = False) -> SignedBy:
    """Who signed `request`. Reads the database: from async code, call it in a thread. Raises as node_authenticate."""
    signed_by = node_authenticate(**request_parts(request), body=body, retired=retired)
    request.META["nexapod.node"] = str(signed_by.node.pk)  # for the log, whose lines say of which node a request is
    return signed_by


def node_of_request(request: HttpRequest, *, body: bytes) -> Node:
    """The node that signed `request`. As signer_of_request."""
    return signer_of_request(request, body=body).node


def registration_verify(request: HttpRequest) -> RegistrationRequest:
    """The registration in `request`, signed by the key that it registers.

    Raises the errors of `request_key_id`, `message_parse` and `request_verify`, KeyMalformedError,
    SignatureReplayedError.
    """
    request_key_id(request.headers)  # first, so that a request without a signature hears of that, not of its body
    message = message_parse(RegistrationRequest, request.body, limit_bytes=REGISTRATION_BYTES_MAX)
    verified = request_verify(
        **request_parts(request),
        body=request.body,
        key=PublicKey.from_base64(message.public_key),
        now=int(time.time()),
    )
    _replay_check(verified)
    return message


def rotation_signer(request: HttpRequest) -> SignedBy:
    """Who signed a rotation: with the current key, or with one that was replaced, perhaps by this very request before."""
    return signer_of_request(request, body=request.body, retired=True)


class HttpSignatureAuthentication(BaseAuthentication):
    """`request.auth` is what `verify` made of a POST; there is no user. Other methods are not authenticated: the view answers 405."""

    def __init__(self, verify: Callable[[HttpRequest], RegistrationRequest | SignedBy]) -> None:
        self._verify = verify

    def authenticate(self, request: Request) -> tuple[AnonymousUser, RegistrationRequest | SignedBy] | None:
        return (AnonymousUser(), self._verify(request._request)) if request.method == "POST" else None

    def authenticate_header(self, request: Request) -> str:
        return "Signature"


class SignedPermission(BasePermission):
    """Only what was verified registers a key or rotates it; other methods get the 405 that awaits them."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.method != "POST" or isinstance(request.auth, RegistrationRequest | SignedBy)


def _replay_check(verified: VerifiedRequest) -> None:
    """Accept each nonce of a key once, for as long as a signature with it could be fresh."""
    try:
        # A clock may be ahead by the tolerance, and the signature is then fresh for that much longer.
        new = cache.add(f"nonce:{verified.key_id}:{verified.nonce}", 1, timeout=2 * TOLERANCE_SECONDS + 1)
    except RedisError as error:
        _log.warning("no replay memory, Redis is away: %s", type(error).__name__)
        return
    if not new:
        raise SignatureReplayedError("This signed request was accepted before. Sign each request anew, also a repeat.")
