"""Pages of a concluded job's files, for its owner. What is another's, and what is not in the result, is answered like what isn't there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from jobs.blobs import BlobGoneError, blob_open
from jobs.models import Blob, Job
from jobs.results.archive_index import ArchiveIndex, IndexedFile
from jobs.results.downloads import bytes_response, image_response
from jobs.results.kinds import HEAD_BYTES, Way, media_type_of, ways_of
from jobs.results.looks import image_of, look_at, structure_of
from jobs.results.selectors import archive_opened, result_of, rule_for
from jobs.selectors import state_shown
from people.page_users import user_of
from workers.protocol.errors import VerificationError

PAGE_FILES: Final = 200


@dataclass(frozen=True)
class FileRow:
    """A file in the list."""

    file: IndexedFile
    folder: str
    name: str
    media_type: str


@require_GET
@never_cache
@login_required
def results_page(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The list of files, PAGE_FILES from the place `from` on; or why there is none."""
    found = result_of(owner=user_of(request), job_id=job_id)
    if found is None:
        raise Http404("You have no job with this id.")
    job, receipt = found
    context: dict[str, Any] = {"job": job, "state": state_shown(job), "receipt": receipt}
    if receipt is not None and receipt.archive is not None:
        try:
            with archive_opened(receipt.archive) as index:
                context |= _list_context(index.files, request.GET.get("from", ""))
        except BlobGoneError:
            context["gone_at"] = receipt.archive.removed_at
        except VerificationError as error:
            context["problem"] = str(error)
    return render(request, "jobs/results/list.html", context)


@require_GET
@never_cache
@login_required
def file_page(request: HttpRequest, job_id: UUID, path: str) -> HttpResponse:
    """One file, in the way `as`, else in the best one; where that can't be, why, and its bytes."""
    job, archive = _result_or_404(request, job_id)
    try:
        with archive_opened(archive) as index:
            return render(request, "jobs/results/file.html", _file_context(request, job, index, path))
    except VerificationError as error:
        return render(request, "jobs/results/list.html", {"job": job, "state": state_shown(job), "receipt": None, "problem": str(error)})


@require_GET
@never_cache
@login_required
def file_download(request: HttpRequest, job_id: UUID, path: str) -> HttpResponseBase:
    """One file's bytes, as an attachment whatever they are."""
    _, archive = _result_or_404(request, job_id)
    file = _file_or_404(archive, path)
    return bytes_response(
        blob_open(archive), name=PurePosixPath(file.path).name, offset_bytes=file.offset_bytes, size_bytes=file.size_bytes
    )


@require_GET
@never_cache
@login_required
def archive_download(request: HttpRequest, job_id: UUID) -> HttpResponseBase:
    """The archive as the host delivered it."""
    job, archive = _result_or_404(request, job_id)
    try:
        stream = blob_open(archive)
    except FileNotFoundError as error:
        raise Http404("The stored archive is gone.") from error
    return bytes_response(stream, name=f"{job.label}.tar", offset_bytes=0, size_bytes=archive.size_bytes)


@require_GET
@never_cache
@login_required
def file_image(request: HttpRequest, job_id: UUID, path: str) -> HttpResponse:
    """A PNG or JPEG, if its first bytes are of one."""
    _, archive = _result_or_404(request, job_id)
    try:
        with archive_opened(archive) as index:
            header, data = image_of(index, _found(index, path))
    except VerificationError as error:
        raise Http404(str(error)) from error
    return image_response(header, data)


@require_GET
@never_cache
@login_required
def file_atoms(request: HttpRequest, job_id: UUID, path: str) -> HttpResponse:
    """The atoms of a structure for the page's script."""
    job, archive = _result_or_404(request, job_id)
    try:
        with archive_opened(archive) as index:
            shown = structure_of(index, _found(index, path), rule_for(job, path), request.GET)
    except VerificationError as error:
        return JsonResponse({"detail": str(error)}, status=422)
    return JsonResponse(shown.document())


def _list_context(files: tuple[IndexedFile, ...], start: str) -> dict[str, Any]:
    first = min(int(start), len(files)) if start.isascii() and start.isdigit() and len(start) < 9 else 0
    page = files[first : first + PAGE_FILES]
    return {
        "rows": [_row(file) for file in page],
        "files": len(files),
        "bytes": sum(file.size_bytes for file in files),
        "first": first + 1,
        "last": first + len(page),
        "before": max(0, first - PAGE_FILES) if first else None,
        "after": first + PAGE_FILES if first + PAGE_FILES < len(files) else None,
    }


def _row(file: IndexedFile) -> FileRow:
    folder, slash, name = file.path.rpartition("/")
    return FileRow(file, folder + slash, name, media_type_of(file.path))


def _file_context(request: HttpRequest, job: Job, index: ArchiveIndex, path: str) -> dict[str, Any]:
    file = _found(index, path)
    rule = rule_for(job, path)
    ways = ways_of(path, rule.file_format, index.read(file, limit_bytes=HEAD_BYTES))
    asked = request.GET.get("as", "")
    way = next((way for way in ways if way == asked), ways[0])
    problem = ""
    try:
        look = look_at(index, file, rule, way, request.GET)
    except VerificationError as error:
        problem = str(error)
        plainer = Way.TEXT if Way.TEXT in ways else Way.HEX  # never fail but for a damaged archive
        look = look_at(index, file, rule, plainer, request.GET)
    return {
        "job": job,
        "row": _row(file),
        "file": file,
        "ways": ways,
        "way": way,
        "look": f"jobs/results/_{look.way}.html",
        "problem": problem,
        **look.context,
    }


def _result_or_404(request: HttpRequest, job_id: UUID) -> tuple[Job, Blob]:
    found = result_of(owner=user_of(request), job_id=job_id)
    if found is None or found[1] is None or found[1].archive is None:
        raise Http404("You have no job with this id that has a result.")
    if found[1].archive.removed_at is not None:
        raise Http404("The result is no longer kept; its digests are on the job's page.")
    return found[0], found[1].archive


def _found(index: ArchiveIndex, path: str) -> IndexedFile:
    file = index.find(path)
    if file is None:
        raise Http404("The result has no file of this name.")
    return file


def _file_or_404(archive: Blob, path: str) -> IndexedFile:
    try:
        with archive_opened(archive) as index:
            return _found(index, path)
    except VerificationError as error:
        raise Http404(str(error)) from error
