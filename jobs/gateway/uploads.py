"""`/api/v1/uploads`: resumable uploads by tus 1.0 (core protocol and the creation extension).

What tus leaves open: the metadata `digest` is required, and `lease_id` of hosts; a chunk has at most 8 MiB; creation is idempotent and
answers with Upload-Offset, so that it also resumes; the last byte is answered after the whole was checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Final
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from jobs.gateway.database import in_database
from jobs.gateway.requests import HeaderInvalidError, body_read, media_type_check, number_header, sender_identify
from jobs.models import Upload
from jobs.services.uploads import upload_append, upload_create, upload_find
from nodes.models import Node
from people.models import Scope, User
from workers.protocol.digests import digest_parse
from workers.protocol.messages.delivery import UPLOAD_CHUNK_BYTES_MAX
from workers.protocol.problems import ProblemError
from workers.protocol.strict_base64 import base64_decode

TUS_VERSION: Final = "1.0.0"
CHUNK_TYPE: Final = "application/offset+octet-stream"
_METADATA_CHARACTERS_MAX: Final = 1000
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class TusVersionError(ProblemError):
    """The request doesn't speak tus 1.0.0."""

    code: ClassVar[str] = "tus_version_unsupported"
    status: ClassVar[int] = 412
    title: ClassVar[str] = "This version of tus is not supported"


@csrf_exempt
@require_http_methods(["OPTIONS", "POST"])
async def uploads_view(request: HttpRequest) -> HttpResponse:
    """OPTIONS: what is spoken. POST: announce an upload."""
    if request.method == "OPTIONS":
        return _tus_answer(
            204,
            {"Tus-Version": TUS_VERSION, "Tus-Extension": "creation", "Tus-Max-Size": str(settings.NEXA_UPLOAD_BYTES_MAX)},
        )
    return await upload_announced(request, sender=_sender, url_name="upload")


@csrf_exempt
@require_http_methods(["HEAD", "PATCH"])
async def upload_view(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """HEAD: where it stands. PATCH: the next chunk."""
    return await upload_continued(request, upload_id, sender=_sender)


Sender = Callable[[HttpRequest, bytes], Node | User]
"""Who asks, by the request and its body. Reads the database; raises a ProblemError for nobody."""


async def upload_announced(request: HttpRequest, *, sender: Sender, url_name: str) -> HttpResponse:
    """The answer to an announcement; `url_name` is the address of one upload."""
    _tus_check(request)
    body = body_read(request, limit_bytes=0)
    size_bytes = number_header(request, "Upload-Length")
    digest, lease_id = _metadata(request)

    def create() -> Upload:
        return upload_create(uploader=sender(request, body), digest=digest, size_bytes=size_bytes, lease_id=lease_id)

    upload = await in_database(create)()
    location = reverse(url_name, kwargs={"upload_id": upload.pk})
    return _tus_answer(201, {"Location": location, "Upload-Offset": str(upload.offset_bytes)})


async def upload_continued(request: HttpRequest, upload_id: UUID, *, sender: Sender) -> HttpResponse:
    """The answer to HEAD, where the upload stands, and to PATCH, the next chunk."""
    _tus_check(request)
    body, offset = b"", 0
    if request.method == "PATCH":
        media_type_check(request, CHUNK_TYPE)
        offset = number_header(request, "Upload-Offset")
        body = body_read(request, limit_bytes=UPLOAD_CHUNK_BYTES_MAX)

    def serve() -> Upload:
        uploader = sender(request, body)
        if request.method == "HEAD":
            return upload_find(uploader=uploader, upload_id=upload_id)
        return upload_append(uploader=uploader, upload_id=upload_id, offset=offset, data=body)

    upload = await in_database(serve)()
    headers = {"Upload-Offset": str(upload.offset_bytes)}
    if request.method == "HEAD":
        return _tus_answer(200, {**headers, "Upload-Length": str(upload.size_bytes)})
    return _tus_answer(204, headers)


def _sender(request: HttpRequest, body: bytes) -> Node | User:
    return sender_identify(request, body=body, scope=Scope.JOBS_WRITE)


def _tus_check(request: HttpRequest) -> None:
    found = request.headers.get("Tus-Resumable", "")
    if found != TUS_VERSION:
        raise TusVersionError(f"Expected the header 'Tus-Resumable: {TUS_VERSION}'; found {found[:40]!r}.", supported=[TUS_VERSION])


def _metadata(request: HttpRequest) -> tuple[str, UUID | None]:
    """`digest` and `lease_id` of Upload-Metadata: pairs of a name and the base64 of its value, separated by commas."""
    text = request.headers.get("Upload-Metadata", "")
    if len(text) > _METADATA_CHARACTERS_MAX:
        raise _metadata_error(f"it has more than {_METADATA_CHARACTERS_MAX} characters")
    values: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        name, _, encoded = pair.strip(" ").partition(" ")
        try:
            value = base64_decode(encoded).decode("utf-8")
        except ValueError as error:
            raise _metadata_error(f"the value of {name[:40]!r} is not base64 of UTF-8") from error
        if name in values:
            raise _metadata_error(f"{name[:40]!r} occurs twice")
        values[name] = value
    if "digest" not in values:
        raise _metadata_error("the digest of the whole is missing")
    digest_parse(values["digest"])
    lease_id = values.get("lease_id")
    if lease_id is not None and _UUID.fullmatch(lease_id) is None:
        raise _metadata_error("lease_id is not a UUID")
    return values["digest"], UUID(lease_id) if lease_id else None


def _metadata_error(fault: str) -> HeaderInvalidError:
    return HeaderInvalidError(
        f"Expected Upload-Metadata with 'digest <base64>' and, from hosts, 'lease_id <base64>'; {fault}.", header="Upload-Metadata"
    )


def _tus_answer(status: int, headers: dict[str, str]) -> HttpResponse:
    response = HttpResponse(status=status, headers={"Tus-Resumable": TUS_VERSION, "Cache-Control": "no-store", **headers})
    del response.headers["Content-Type"]
    return response
