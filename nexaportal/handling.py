"""Where a request is handled: one thread for all of a page, none for what a host asks.

Django's own handler makes one asynchronous chain of middlewares, in which each half of each synchronous one is handed to a thread and back:
seventeen times in a request that does nothing. Here a request goes one of three ways, by its view:

1. A synchronous view: middlewares and view in one thread, as under WSGI.
2. An asynchronous one that is exempt from the CSRF check, so that it knows no cookies (hosts' addresses, uploads and blobs): those of
   NEXA_COOKIELESS_MIDDLEWARE, all on the event loop. An exchange waits for 25 seconds, and many wait at once.
3. Any other: Django's way.

A body is read before anybody asks who sends it, so no body is larger than the largest that any address takes, nor as slow as it likes.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any, Final, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.deprecation import MiddlewareMixin
from django.utils.module_loading import import_string

from jobs.gateway.requests import BodyTooLargeError
from nexaportal.problems import problem_response

BODY_BYTES_MAX: Final = 12 * 2**20
"""In one request; infra/proxy/nginx.conf has it too. The form that submits a job takes 10 MiB, an upload 8 in a piece."""
BODY_SECONDS_MAX: Final = 600
"""From the first byte of a body to its last."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class PortalHandler(ASGIHandler):
    """Django's handler of ASGI, with the two shorter ways beside its own."""

    def __init__(self) -> None:
        super().__init__()
        self._threaded = BaseHandler()
        self._threaded.load_middleware()
        self._cookieless = _CookielessHandler()

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Overrides Django's: refuses what read_body refuses."""
        try:
            await super().handle(scope, receive, send)
        except BodyTooLargeError as error:
            await self.send_response(problem_response(error), send)

    async def read_body(self, receive: Receive) -> IO[bytes]:
        """Overrides Django's, which reads for ever. Raises BodyTooLargeError, RequestAborted."""
        body = tempfile.SpooledTemporaryFile(max_size=settings.FILE_UPLOAD_MAX_MEMORY_SIZE)  # noqa: SIM115  the request closes it
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                await _body_receive(receive, body)
        except BaseException as error:
            body.close()
            if isinstance(error, TimeoutError):
                raise RequestAborted from error
            raise
        body.seek(0)
        return cast("IO[bytes]", body)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        """Overrides Django's: the answer, the shortest way."""
        view = _view_of(request.path_info)
        if not iscoroutinefunction(view):
            return await sync_to_async(self._threaded.get_response)(request)
        if getattr(view, "csrf_exempt", False):
            return await self._cookieless.get_response_async(request)
        return await super().get_response_async(request)


class _CookielessHandler(BaseHandler):
    """A chain of middlewares that don't block."""

    def __init__(self) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        handler = convert_exception_to_response(self._get_response_async)  # type: ignore[attr-defined]  # the stubs leave it out
        for path in reversed(settings.NEXA_COOKIELESS_MIDDLEWARE):
            made = import_string(path)
            middleware = _OnLoop(made, handler) if issubclass(made, MiddlewareMixin) else made(handler)
            if hasattr(middleware, "process_exception"):
                self._exception_middleware.append(middleware.process_exception)
            handler = convert_exception_to_response(middleware)
        self._middleware_chain = handler


class _OnLoop:
    """One of Django's middlewares of which neither half waits for anything: they are called where the request is."""

    def __init__(self, made: type[MiddlewareMixin], get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._middleware: Any = made(get_response)
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._middleware.process_request(request) if hasattr(self._middleware, "process_request") else None
        if response is None:
            response = await self._get_response(request)
        if hasattr(self._middleware, "process_response"):
            response = self._middleware.process_response(request, response)
        answer: HttpResponseBase = response
        return answer


async def _body_receive(receive: Receive, body: IO[bytes]) -> None:
    size_bytes, is_more = 0, True
    while is_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestAborted
        piece = message.get("body", b"")
        size_bytes += len(piece)
        if size_bytes > BODY_BYTES_MAX:
            raise BodyTooLargeError(
                f"Expected at most {BODY_BYTES_MAX} bytes in one request; this one has more. Send a file in pieces (docs/API.md, uploads).",
                limit_bytes=BODY_BYTES_MAX,
            )
        body.write(piece)
        is_more = message.get("more_body", False)


def _view_of(path: str) -> Callable[..., Any] | None:
    """None: no view has this address, which is answered the synchronous way."""
    try:
        return resolve(path).func
    except Resolver404:
        return None
