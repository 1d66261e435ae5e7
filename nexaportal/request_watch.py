"""The outermost middleware: a request's id, for its answer and for the log, and its place in the metrics."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Mapping
from typing import Final

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from nexaportal.logs import ORIGIN_OF_REQUEST, ids_of_arguments, logging_of
from nexaportal.metrics import HTTP_SECONDS
from nexaportal.middleware import TwoWayMiddleware

HEADER: Final = "X-Request-Id"
_FROM_PROXY: Final = re.compile(r"[0-9a-f]{32}")


class RequestOrigin:
    """A request, for the log: its id, and what its address and its signature turn out to name."""

    def __init__(self, request: HttpRequest, request_id: str) -> None:
        self._request = request
        self.request_id = request_id

    def ids(self) -> Mapping[str, str]:
        match = self._request.resolver_match
        node = self._request.META.get("nexapod.node")  # nodes/authentication.py, once the signature is known to be good
        return {
            "request_id": self.request_id,
            **ids_of_arguments(match.kwargs if match else {}),
            **({"node": node} if node else {}),
        }


class RequestWatchMiddleware(TwoWayMiddleware):
    """Stands around all others. The proxy's id is taken over where there is a proxy of ours; else nobody's but our own is believed."""

    def _call(self, request: HttpRequest) -> HttpResponseBase:
        began, origin = time.perf_counter(), _origin_of(request)
        with logging_of(origin):
            return _watched(request, self._get_response(request), origin, began)

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        began, origin = time.perf_counter(), _origin_of(request)
        with logging_of(origin):
            return _watched(request, await self._get_response(request), origin, began)


def _origin_of(request: HttpRequest) -> RequestOrigin:
    given = request.headers.get(HEADER, "") if settings.ALLAUTH_TRUSTED_PROXY_COUNT else ""
    origin = RequestOrigin(request, given if _FROM_PROXY.fullmatch(given) else uuid.uuid4().hex)
    request.META[ORIGIN_OF_REQUEST] = origin
    return origin


def _watched(request: HttpRequest, response: HttpResponseBase, origin: RequestOrigin, began: float) -> HttpResponseBase:
    response.headers[HEADER] = origin.request_id
    match = request.resolver_match
    route = match.view_name if match and match.view_name else "none"  # never the path: strangers would make a series of each
    method = request.method if request.method in _METHODS else "other"
    HTTP_SECONDS.labels(route, method, f"{response.status_code // 100}xx").observe(time.perf_counter() - began)
    return response


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
