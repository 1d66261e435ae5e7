"""Resumable uploads of a browser: the same tus as at the API, for who is signed in, guarded against other sites by Django's CSRF check.

The API's addresses know no cookies, so that no other site can make a browser speak to them; these know nothing else.
"""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_http_methods

from jobs.gateway.database import in_database
from jobs.gateway.requests import NotAuthenticatedError
from jobs.gateway.uploads import upload_announced, upload_continued
from jobs.services.submission import researcher_check
from jobs.services.uploads import upload_cancel
from people.models import User


@require_http_methods(["POST"])
async def browser_uploads_view(request: HttpRequest) -> HttpResponse:
    """Announces an upload."""
    return await upload_announced(request, sender=_sender, url_name="browser-upload")


@require_http_methods(["HEAD", "PATCH", "DELETE"])
async def browser_upload_view(request: HttpRequest, upload_id: UUID) -> HttpResponse:
    """HEAD: where it stands. PATCH: the next chunk. DELETE: forget what came of it."""
    if request.method != "DELETE":
        return await upload_continued(request, upload_id, sender=_sender)
    await in_database(lambda: upload_cancel(user=_sender(request, b""), upload_id=upload_id))()
    return HttpResponse(status=204)


def _sender(request: HttpRequest, body: bytes) -> User:
    """Who is signed in. Only researchers have anything to upload for. Raises NotAuthenticatedError, ResearcherRequiredError."""
    user = request.user
    if not isinstance(user, User):
        raise NotAuthenticatedError("You are signed out. Sign in again in another tab, then go on here.")
    researcher_check(user)
    return user
