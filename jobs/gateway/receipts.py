"""`POST /api/v1/receipts`: a host reports what it did."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from jobs.gateway.database import in_database
from jobs.gateway.requests import json_body, node_identify
from jobs.models import Receipt
from jobs.services.receipts import receipt_accept
from workers.protocol.dsse import ENVELOPE_LIMIT_BYTES
from workers.protocol.messages import ReceiptAnswer, ReceiptSubmission
from workers.protocol.validation import message_parse

RECEIPT_BYTES_MAX: Final = ENVELOPE_LIMIT_BYTES + 1024
"""Any envelope, and what stands around it: a receipt names every output file, of which there may be 10,000."""


@csrf_exempt
@require_POST
async def receipts_view(request: HttpRequest) -> HttpResponse:
    """A receipt in, its row's digest out; the same receipt again gives the same answer."""
    body = json_body(request, limit_bytes=RECEIPT_BYTES_MAX)
    receipt = await in_database(_accept)(request, body)
    answer = ReceiptAnswer(
        replica_id=receipt.replica_id,
        status="late" if receipt.late else "recorded",
        receipt_digest=receipt.digest,
        received_at=receipt.received_at,
    )
    return HttpResponse(answer.model_dump_json(), content_type="application/json")


def _accept(request: HttpRequest, body: bytes) -> Receipt:
    node = node_identify(request, body=body)
    submission = message_parse(ReceiptSubmission, body, limit_bytes=RECEIPT_BYTES_MAX)
    return receipt_accept(node=node, envelope=submission.envelope, now=timezone.now())
