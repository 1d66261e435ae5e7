"""`POST /api/v1/exchange`: the one conversation of a host with the coordinator.

A database connection is held while there is something to ask, never while the exchange waits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from jobs.gateway.database import in_database
from jobs.gateway.requests import JSON_BYTES_MAX, json_body, signer_identify
from jobs.gateway.wakes import wake_hub
from jobs.matching.no_work import TAKEN, no_work_reason
from jobs.models import Replica
from jobs.services.exchanges import exchange_is_superseded, exchange_record
from jobs.services.heartbeats import PortalAlive, node_heard, node_refused
from jobs.services.leases import cancel_commands, leases_claim, leases_of_request, leases_renew
from jobs.sessions import Arrival
from ledger.checkpoints import checkpoint_latest
from nodes.clones import clone_record
from nodes.errors import SessionSupersededError
from nodes.models import Node, NodeState
from nodes.selectors import upgrade_advised
from nodes.services import node_software_record
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.exchange import Command, CommandKind, ExchangeAnswer, ExchangeRequest, NoWork, Renewal
from workers.protocol.validation import ProtocolUnsupportedError, message_parse

RETRY_SECONDS: Final = 0.03
"""When what fits is locked by another exchange: it is free again, or gone, as soon as that one commits. Doubled with each retry."""

STOPPING_WAIT_SECONDS: Final = 1.0
"""A host that is told to stop a run goes on reporting it until it is down; it need not ask again at once."""


_portal_alive: Final = PortalAlive()


@dataclass
class _Talk:
    """One exchange as it goes on."""

    node: Node
    message: ExchangeRequest
    renewed: Sequence[Renewal]
    commands: list[Command]
    orders: Sequence[Replica] = ()
    no_work: NoWork | None = None
    is_superseded: bool = False
    """A newer exchange of this node has arrived, or a newer worker; nobody reads the answer to this one."""
    answer: str | None = None
    """Made where the orders were found, as their host waits for it; else when the wait is over."""

    @property
    def wait_seconds(self) -> float:
        """As asked, but short enough that the host's leases are renewed in time."""
        wait_seconds = min(self.message.wait_seconds, settings.NEXA_LEASE_SECONDS / 3)
        return min(wait_seconds, STOPPING_WAIT_SECONDS) if self.commands else wait_seconds


@csrf_exempt
@require_POST
async def exchange_view(request: HttpRequest) -> HttpResponse:
    """Renews leases, then answers with orders or commands as soon as there are any, at the latest when the wait is over."""
    body = json_body(request)
    started = time.monotonic()
    talk = await in_database(_open)(request, body)
    until = started + talk.wait_seconds
    if not talk.orders and not talk.is_superseded and talk.wait_seconds > 0:
        await _wait(talk, until)
    return HttpResponse(talk.answer or await in_database(_answer)(talk), content_type="application/json")


async def _wait(talk: _Talk, until: float) -> None:
    told, retry_seconds = len(talk.commands), RETRY_SECONDS
    async with wake_hub().waiter(talk.message.queues) as waiter:
        while True:
            # Also before the first wait: what was queued before the subscription stood would wake nobody.
            await in_database(_look)(talk)
            left = until - time.monotonic()
            if talk.orders or talk.is_superseded or len(talk.commands) > told or left <= 0:
                return
            if talk.no_work is not None and talk.no_work.code == TAKEN:
                left, retry_seconds = min(left, retry_seconds), retry_seconds * 2
            else:
                retry_seconds = RETRY_SECONDS
            await waiter.wait(left)


def _open(request: HttpRequest, body: bytes) -> _Talk:
    """Who it is, what they report, and whether there is work at once. Raises SessionSupersededError, and what identifying raises."""
    signer = signer_identify(request, body=body)
    node = signer.node
    try:
        message = message_parse(ExchangeRequest, body, limit_bytes=JSON_BYTES_MAX)
    except ProtocolUnsupportedError as error:
        node_refused(node=node, reason=NoWork(code=error.code, message=error.detail))
        raise
    now = timezone.now()
    _portal_alive.record(now=now)
    arrival = exchange_record(node=node, request_id=message.request_id, session_id=message.session_id, signed_at=signer.signed_at)
    if arrival is Arrival.RETURNED:
        clone_record(node=node, now=now)
        raise SessionSupersededError(
            "Another worker with this node's key has started since this one did: a key may be used in one place only. If the other one is "
            "yours, remove this copy of the node's home. If it is not, `nexa key rotate` here makes it worthless."
        )
    node_software_record(node=node, version=message.software_version)
    renewed = leases_renew(node=node, reports=message.leases, now=now)
    talk = _Talk(node=node, message=message, renewed=renewed.renewals, commands=renewed.commands, is_superseded=arrival is Arrival.LATE)
    talk.orders = leases_of_request(node=node, request_id=message.request_id) if talk.is_superseded else _claim(talk)
    if talk.orders or talk.wait_seconds == 0:
        talk.answer = _answer(talk)
    return talk


def _look(talk: _Talk) -> None:
    """Looks for orders and for leases to stop; where there is no order, says whether that is so for a moment only."""
    message = talk.message
    node = talk.node
    node.refresh_from_db(fields=["state", "queues"])
    talk.orders = _claim(talk)
    if not talk.orders and exchange_is_superseded(node=node, request_id=message.request_id):
        talk.is_superseded = True
        return
    known = {command.lease_id for command in talk.commands}
    reported = {renewal.lease_id for renewal in talk.renewed} - known
    talk.commands += cancel_commands(node=node, lease_ids=reported)
    talk.no_work = None
    if talk.orders:
        talk.answer = _answer(talk)
    elif message.free.slots > 0:
        talk.no_work = no_work_reason(node=node, wanted=message.queues, free=message.free, wishes=message.wishes)


def _claim(talk: _Talk) -> Sequence[Replica]:
    message = talk.message
    return leases_claim(
        node=talk.node,
        request_id=message.request_id,
        wanted=message.queues,
        free=message.free,
        wishes=message.wishes,
        now=timezone.now(),
    )


def _answer(talk: _Talk) -> str:
    message = talk.message
    if not talk.orders and talk.no_work is None and message.free.slots > 0 and not talk.is_superseded:
        talk.no_work = no_work_reason(node=talk.node, wanted=message.queues, free=message.free, wishes=message.wishes)
    now = timezone.now()
    node_heard(node=talk.node, no_work=talk.no_work or message.hold, machine=message.machine, now=now)
    checkpoint = checkpoint_latest()
    return ExchangeAnswer(
        protocol_version=PROTOCOL_VERSION,
        request_id=message.request_id,
        server_time=now,
        orders=tuple(json.loads(bytes(replica.order_envelope or b"")) for replica in talk.orders),
        renewed=tuple(talk.renewed),
        commands=(*talk.commands, *_node_commands(talk.node), *_upgrade_commands(talk.node)),
        no_work=talk.no_work,
        checkpoint=checkpoint.note if checkpoint else None,
    ).model_dump_json()


def _node_commands(node: Node) -> list[Command]:
    """What concerns the whole node. Repeated with each answer, and no reason to answer early."""
    match NodeState(node.state):
        case NodeState.PAUSED:
            return [Command(kind=CommandKind.PAUSE, reason="This node was paused in the portal.")]
        case NodeState.QUARANTINED:
            return [Command(kind=CommandKind.PAUSE, reason="This node is quarantined: a moderator looks at its results.")]
        case NodeState.DRAINING:
            return [Command(kind=CommandKind.DRAIN, reason="This node is drained: it finishes what it has and ends.")]
        case NodeState.ACTIVE | NodeState.REVOKED:  # the next exchange of a revoked node is refused
            return []


def _upgrade_commands(node: Node) -> list[Command]:
    advised = upgrade_advised(node)
    if not advised:
        return []
    reason = f"This portal recommends host software {advised} or later; this is {node.profile['software_version']}."
    return [Command(kind=CommandKind.UPGRADE, reason=f"{reason} docs/host.md, Upgrading.")]
