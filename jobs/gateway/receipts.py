"""`POST /api/v1/receipts`: a host reports what it did."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from jobs.gateway.database import in_database
from jobs.gateway.requests import json_body, node_identify
from jobs.services.receipts import Result, TakenReceipt, receipts_accept
from workers.protocol.messages.base import Problem
from workers.protocol.messages.delivery import RECEIPTS_BYTES_MAX, ReceiptAnswer, ReceiptResult, ReceiptsAnswer, ReceiptSubmission
from workers.protocol.problems import problem_document
from workers.protocol.validation import message_parse


@csrf_exempt
@require_POST
async def receipts_view(request: HttpRequest) -> HttpResponse:
    """Receipts in, a result for each out: its row's digest, or a problem. The same receipt again gives the same answer."""
    body = json_body(request, limit_bytes=RECEIPTS_BYTES_MAX)
    return HttpResponse(await in_database(_accept)(request, body), content_type="application/json")


def _accept(request: HttpRequest, body: bytes) -> str:
    node = node_identify(request, body=body)
    submission = message_parse(ReceiptSubmission, body, limit_bytes=RECEIPTS_BYTES_MAX)
    results = receipts_accept(node=node, submitted=submission.receipts, now=timezone.now())
    return ReceiptsAnswer(results=tuple(_result_of(result) for result in results)).model_dump_json()


def _result_of(result: Result) -> ReceiptResult:
    if not isinstance(result, TakenReceipt):
        return ReceiptResult(problem=Problem.model_validate(problem_document(result)))
    return ReceiptResult(
        answer=ReceiptAnswer(
            replica_id=result.replica_id,
            status="late" if result.late else "recorded",
            receipt_digest=result.digest,
            received_at=result.received_at,
        )
    )
