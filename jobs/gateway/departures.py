"""`POST /api/v1/nodes/self/leave`: a host says that it is no more. Here, and not in `nodes`, because its leases are given back."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from jobs.gateway.database import in_database
from jobs.gateway.requests import body_read, node_identify
from jobs.services.leases import node_leave
from nodes.errors import NodeRevokedError


@csrf_exempt
@require_POST
async def leave_view(request: HttpRequest) -> HttpResponse:
    """204, also when the node has left before: a host that did not see the answer asks again."""
    body = body_read(request, limit_bytes=0)

    def leave() -> None:
        try:
            node = node_identify(request, body=body)
        except NodeRevokedError:  # raised after the signature was verified: it is that node, and it has left
            return
        node_leave(node=node, now=timezone.now())

    await in_database(leave)()
    response = HttpResponse(status=204)
    del response.headers["Content-Type"]
    return response
