"""What the gateway's views share: who asks, and the bytes of a body, each read carefully and once.

A request is either signed by a node (RFC 9421) or carries a person's API token. Cookies don't count here, so no other site can make a
browser speak to these addresses; the views are therefore exempt from CSRF checks.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

from django.http import HttpRequest

from jobs.services.uploads import UploadTooLargeError
from nodes.authentication import SignedBy, node_of_request, signer_of_request
from nodes.models import Node
from people.authentication import token_authenticate
from people.models import Scope, User
from people.permissions import scope_check
from workers.protocol.problems import ProblemError

JSON_BYTES_MAX: Final = 1024 * 1024
_NUMBER: Final = re.compile(r"[0-9]{1,16}")


class NotAuthenticatedError(ProblemError):
    """Neither a signature nor a token."""

    code: ClassVar[str] = "not_authenticated"
    status: ClassVar[int] = 401
    title: ClassVar[str] = "The request says not who sends it"


class BodyTooLargeError(ProblemError):
    """More bytes than this address takes."""

    code: ClassVar[str] = "body_too_large"
    status: ClassVar[int] = 413
    title: ClassVar[str] = "The body is too large"


class MediaTypeError(ProblemError):
    """The body is of another type than this address takes."""

    code: ClassVar[str] = "media_type_unsupported"
    status: ClassVar[int] = 415
    title: ClassVar[str] = "The body is of the wrong type"


class HeaderInvalidError(ProblemError):
    """A header field is missing or can't be read; `header` names it."""

    code: ClassVar[str] = "header_invalid"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "A header field is missing or malformed"


def json_body(request: HttpRequest, *, limit_bytes: int = JSON_BYTES_MAX) -> bytes:
    """A JSON body of at most `limit_bytes` bytes, not yet parsed. Raises MediaTypeError, BodyTooLargeError."""
    media_type_check(request, "application/json")
    return body_read(request, limit_bytes=limit_bytes)


def media_type_check(request: HttpRequest, expected: str) -> None:
    """Raises MediaTypeError unless the body is said to be of type `expected`."""
    if request.content_type != expected:
        raise MediaTypeError(f"Expected a body of type {expected}; found {(request.content_type or 'none')[:80]!r}. Set Content-Type.")


def body_read(request: HttpRequest, *, limit_bytes: int) -> bytes:
    """The whole body. Raises BodyTooLargeError, by its announced length if there is one."""
    announced = request.headers.get("Content-Length", "")
    is_larger = announced.isdecimal() and (len(announced) > 16 or int(announced) > limit_bytes)
    body = b"" if is_larger else request.read(limit_bytes + 1)
    if is_larger or len(body) > limit_bytes:
        raise BodyTooLargeError(f"Expected a body of at most {limit_bytes} bytes; this one is larger.", limit_bytes=limit_bytes)
    return body


def number_header(request: HttpRequest, name: str) -> int:
    """A header field that is a whole number of bytes. Raises HeaderInvalidError, UploadTooLargeError beyond 16 digits."""
    found = request.headers.get(name, "")
    if re.fullmatch(r"[0-9]{17,400}", found):
        raise UploadTooLargeError(f"{name}: no upload here is that large.")
    if _NUMBER.fullmatch(found) is None:
        raise HeaderInvalidError(f"Expected {name} with a whole number of bytes; found {found[:80]!r}.", header=name)
    return int(found)


def node_identify(request: HttpRequest, *, body: bytes) -> Node:
    """The node that signed the request. Raises what `nodes.authentication` raises. Reads the database."""
    return node_of_request(request, body=body)


def signer_identify(request: HttpRequest, *, body: bytes) -> SignedBy:
    """As node_identify, with the key and the time of the signature."""
    return signer_of_request(request, body=body)


def sender_identify(request: HttpRequest, *, body: bytes, scope: Scope) -> Node | User:
    """The node that signed the request, or the person whose token has `scope`. Reads the database.

    Raises NotAuthenticatedError, ScopeMissingError, and what `nodes.authentication` and `people.authentication` raise.
    """
    if "Signature-Input" in request.headers or "Signature" in request.headers:
        return node_identify(request, body=body)
    authorization = request.headers.get("Authorization")
    if authorization is None:
        raise NotAuthenticatedError("Sign the request as a node (RFC 9421), or send 'Authorization: Bearer' with an API token.")
    token = token_authenticate(authorization)
    scope_check(token=token, scope=scope)
    return token.owner
