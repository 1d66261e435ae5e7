"""What is kept of a node's exchanges: the newest one, and the worker that it came from."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.db import connection, transaction

from jobs.models import NodeExchange
from jobs.sessions import Arrival, Sessions
from nodes.models import Node

_RECORD: Final = """
INSERT INTO jobs_nodeexchange AS known (node_id, request_id, session_id, session_began_at, superseded)
VALUES (%(node)s, %(request)s, %(session)s, %(signed_at)s, '{}')
ON CONFLICT (node_id) DO UPDATE SET request_id = excluded.request_id WHERE known.session_id = excluded.session_id
RETURNING 1
"""


def exchange_record(*, node: Node, request_id: UUID, session_id: UUID, signed_at: int) -> Arrival:
    """Makes this the newest exchange of the node, unless its session is not the node's newest: one statement in the usual case.

    An older exchange that still waits, in whichever process, claims nothing any more.
    """
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, {"node": node.pk, "request": request_id, "session": session_id, "signed_at": signed_at})
        if cursor.fetchone():
            return Arrival.CURRENT
    with transaction.atomic():
        row = NodeExchange.objects.select_for_update().get(node=node)
        sessions = Sessions(row.session_id, row.session_began_at, {UUID(one): at for one, at in row.superseded.items()})
        arrival = sessions.arrival_of(session_id, signed_at=signed_at)
        if arrival is Arrival.NEW:
            sessions = sessions.followed_by(session_id, signed_at=signed_at)
        if arrival in (Arrival.NEW, Arrival.CURRENT):
            row.request_id, row.session_id, row.session_began_at = request_id, sessions.current, sessions.began_at
            row.superseded = {str(one): at for one, at in sessions.superseded.items()}
            row.save()
        return arrival


def exchange_is_superseded(*, node: Node, request_id: UUID) -> bool:
    """Whether a newer exchange of the node has arrived."""
    return NodeExchange.objects.filter(node=node).exclude(request_id=request_id).exists()
