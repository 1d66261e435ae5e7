"""Reading a work order: first whose it is, then whether this node may and can carry it out. Pure; believes nothing before the signature.

1. The envelope is the pinned coordinator's, around an order (`order_open`). Anything else is nobody's order: dropped, never answered.
2. It is for this node's key, from this node's portal, before its deadline, of a version that we speak, what the contributor
   wishes, within the caps (`order_check`). An order that fails here is the coordinator's, so it is answered with a `host_refused` receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from workers.caps import Caps
from workers.home import NodeIdentity
from workers.protocol.canonical import canonical_json, json_parse
from workers.protocol.digests import digest_of
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES, PAYLOAD_TYPE_ORDER, envelope_open
from workers.protocol.errors import NotCanonicalError, VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.messages.order import Order
from workers.protocol.room import Need, NoRoomError, Room
from workers.protocol.wishes import wish_unmet
from workers.resources import lent


class OrderMalformedError(VerificationError):
    """Signed by the coordinator, but not an order that this version can read."""

    code = "order_malformed"


class OrderRefusedError(Exception):
    """An order of our coordinator that this node will not carry out; the message says why."""


@dataclass(frozen=True)
class OpenedOrder:
    """An order whose signature was checked. `digest` is that of the payload: receipts and log chains start from it."""

    order: Order
    digest: str
    envelope: bytes


def order_open(envelope: bytes | Mapping[str, Any], *, coordinator: PublicKey) -> OpenedOrder:
    """The order in `envelope` (canonical JSON, or the object it was parsed into). Raises VerificationError; nothing else."""
    try:
        data = envelope if isinstance(envelope, bytes) else canonical_json(dict(envelope))
    except NotCanonicalError as error:
        raise OrderMalformedError(f"The envelope of an order can't be read: {error}") from error
    payload = envelope_open(data, payload_type=PAYLOAD_TYPE_ORDER, key=coordinator)
    try:
        order = Order.model_validate(json_parse(payload, limit_bytes=ENVELOPE_LIMIT_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise OrderMalformedError(f"Not an order that this version reads: {where}: {first['msg']}.") from error
    return OpenedOrder(order, digest_of(payload), data)


def order_check(order: Order, *, identity: NodeIdentity, caps: Caps, now: datetime) -> None:
    """Return if this node may carry the order out. Raises OrderRefusedError."""
    if order.node_key_id != identity.key_id:
        raise OrderRefusedError(f"The order is for the node key {order.node_key_id}; this node's is {identity.key_id}.")
    if order.origin != identity.portal:
        raise OrderRefusedError(f"The order names the portal {order.origin}; this node has joined {identity.portal}.")
    if order.deadline_at <= now:
        raise OrderRefusedError(f"The order's deadline, {order.deadline_at.isoformat()}, has passed by this host's clock.")
    unmet = wish_unmet(caps.wishes, image=order.image.name, job_type=order.job_type, credit_rate_micro=order.credit_rate_micro)
    if unmet is not None:
        raise OrderRefusedError(f"The order was not to be offered: {unmet}.")
    try:
        Room(lent(caps)).take(Need.of(order.limits))
    except NoRoomError as error:
        raise OrderRefusedError(f"The order may use {error.wanted} {error.what}; this node lends {error.found}.") from error
