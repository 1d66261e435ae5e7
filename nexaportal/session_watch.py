"""When each signed-in browser was last here: kept by allauth's list of sessions, which people see and end them by.

allauth's own middleware writes the row with every request, and stands in synchronous chains only. This one lets it write once in
SEEN_EVERY_SECONDS for each session; which ones it has written is in Redis, and forgetting that costs a write more. A session that was begun
before the list was kept enters it here; one that begins is in it by its sign-in.
"""

from __future__ import annotations

import hashlib
from typing import Final

from allauth.usersessions.models import UserSession
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from redis.exceptions import RedisError

from nexaportal.middleware import TwoWayMiddleware

SEEN_EVERY_SECONDS: Final = 300


class SessionWatchMiddleware(TwoWayMiddleware):
    """Stands behind the authentication. Requests without a session's cookie pass at no cost."""

    def _call(self, request: HttpRequest) -> HttpResponseBase:
        session_see(request)
        response: HttpResponseBase = self._get_response(request)
        return response

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        if settings.SESSION_COOKIE_NAME in request.COOKIES:
            await sync_to_async(session_see)(request)
        response: HttpResponseBase = await self._get_response(request)
        return response


def session_see(request: HttpRequest) -> None:
    """Writes that the session of the request is in use, if that is due and somebody is signed in. Idempotent within the time."""
    cookie = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not cookie or not is_due(cookie) or not request.user.is_authenticated:
        return
    UserSession.objects.create_from_request(request)


def session_begun(request: HttpRequest | None = None, **_: object) -> None:
    """Receiver of Django's user_logged_in: nothing is due for a while."""
    if request is not None and request.session.session_key:
        is_due(request.session.session_key)


def is_due(session_key: str) -> bool:
    """Whether nobody was told so of this session for SEEN_EVERY_SECONDS; False too where Redis is away: this can wait."""
    key = hashlib.sha256(session_key.encode("utf-8", "surrogatepass")).hexdigest()  # who reads Redis must not have sessions
    try:
        return bool(cache.add(f"session-seen:{key}", 1, timeout=SEEN_EVERY_SECONDS))
    except RedisError:
        return False
