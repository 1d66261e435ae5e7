"""`GET /api/v1/blobs/<digest>`: bytes by digest, for those whom something of theirs refers to.

A node may read the inputs of leases that it holds now, or held and may still report. A person may read what they uploaded, the inputs of
their jobs, and, once a job of theirs is concluded, the archives and logs of its receipts, but for results that were never judged
(jobs/evidence/disclosure.py). To everybody else a blob that exists and one that doesn't look the same.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import BinaryIO, ClassVar, Final

from asgiref.sync import sync_to_async
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from jobs.blobs import READ_BYTES, blob_open
from jobs.evidence.disclosure import BYTES_SHOWN
from jobs.gateway.database import in_database
from jobs.gateway.requests import sender_identify
from jobs.models import Blob, JobInput, Receipt, Replica, Upload
from jobs.states import JOB_OPEN, REPLICA_LIVE, ReplicaState
from nodes.models import Node
from people.models import Scope, User
from workers.protocol.digests import digest_parse
from workers.protocol.problems import ProblemError

_RANGE: Final = re.compile(r"bytes=(?:([0-9]{1,16})-([0-9]{0,16})|-([0-9]{1,16}))")


class BlobUnknownError(ProblemError):
    """There is no such blob, or it is none of the caller's business."""

    code: ClassVar[str] = "blob_unknown"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "There is no such blob for you"


@dataclass(frozen=True)
class _Part:
    """Bytes `first` to `last` of a blob, both included; `last` is before `first` for none."""

    first: int
    last: int

    @property
    def size_bytes(self) -> int:
        return self.last - self.first + 1


@csrf_exempt
@require_http_methods(["GET", "HEAD"])
async def blob_view(request: HttpRequest, digest: str) -> HttpResponseBase:
    """The blob, or the one range that is asked for (RFC 9110, section 14). Several ranges at once are answered with the whole."""
    digest_parse(digest)

    def find() -> Blob:
        reader = sender_identify(request, body=b"", scope=Scope.JOBS_READ)
        return _readable_blob(reader, digest)

    blob = await in_database(find)()
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": f'"{blob.digest}"',
        "Cache-Control": "private, no-transform",
        "Content-Type": "application/octet-stream",
        "Content-Disposition": "attachment",
    }
    part = _part_of(request, blob)
    if part is None:
        return HttpResponse(status=416, headers={**headers, "Content-Range": f"bytes */{blob.size_bytes}"})
    status = 200
    if part.size_bytes != blob.size_bytes:
        status, headers["Content-Range"] = 206, f"bytes {part.first}-{part.last}/{blob.size_bytes}"
    headers["Content-Length"] = str(part.size_bytes)
    if request.method == "HEAD":
        return HttpResponse(status=status, headers=headers)
    if blob.data is not None:
        return HttpResponse(bytes(blob.data)[part.first : part.last + 1], status=status, headers=headers)
    file = await sync_to_async(blob_open)(blob)
    return StreamingHttpResponse(_FilePart(file, part), status=status, headers=headers)


class _FilePart:
    """The bytes of a part, asynchronously. The response that has it closes it, also when nobody reads."""

    def __init__(self, file: BinaryIO, part: _Part) -> None:
        self._file = file
        self._part = part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await sync_to_async(self._file.seek)(self._part.first)
        left = self._part.size_bytes
        while left > 0 and (chunk := await sync_to_async(self._file.read)(min(READ_BYTES, left))):
            left -= len(chunk)
            yield chunk

    def close(self) -> None:
        self._file.close()


def _readable_blob(reader: Node | User, digest: str) -> Blob:
    if isinstance(reader, Node):
        # An expired lease may still be reported while its job is open, so it may still begin.
        late = Q(state=ReplicaState.EXPIRED, job__state__in=JOB_OPEN)
        held = Replica.objects.filter(Q(state__in=REPLICA_LIVE) | late, node=reader)
        may_read = JobInput.objects.filter(blob=digest, job__in=held.values("job")).exists()
    else:
        shown = reduce(or_, (Q(replica__job__state=job, replica__state__in=states) for job, states in BYTES_SHOWN.items()))
        of_concluded = Receipt.objects.filter(shown, replica__job__owner=reader)
        may_read = (
            Upload.objects.filter(user=reader, digest=digest, committed_at__isnull=False).exists()
            or JobInput.objects.filter(job__owner=reader, blob=digest).exists()
            or of_concluded.filter(archive=digest).exists()
            or of_concluded.filter(log=digest).exists()
        )
    blob = Blob.objects.filter(pk=digest).first() if may_read else None
    if blob is None:
        raise BlobUnknownError(
            "Nodes read the inputs of their live leases; people their uploads, their inputs, and results of their concluded jobs."
        )
    return blob


def _part_of(request: HttpRequest, blob: Blob) -> _Part | None:
    """What to send; None when the range asked for is not in the blob. A field that is no single range is ignored, as RFC 9110 says."""
    whole = _Part(0, blob.size_bytes - 1)
    if_range = request.headers.get("If-Range")
    match = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    if match is None or (if_range is not None and if_range != f'"{blob.digest}"'):
        return whole
    first_text, last_text, suffix_text = match.groups()
    if suffix_text is not None:
        suffix = min(int(suffix_text), blob.size_bytes)
        return _Part(blob.size_bytes - suffix, blob.size_bytes - 1) if suffix else None
    first = int(first_text)
    last = min(int(last_text), blob.size_bytes - 1) if last_text else blob.size_bytes - 1
    if last_text and int(last_text) < first:
        return whole
    return _Part(first, last) if first < blob.size_bytes else None
