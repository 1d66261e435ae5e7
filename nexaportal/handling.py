"""Where a request is handled: one thread for all of a page, none for what a host asks.

Django's own handler makes one asynchronous chain of middlewares, in which each half of each synchronous one is handed to a thread and back:
seventeen times in a request that does nothing. Here a request goes one of three ways, by its view:

1. A synchronous view: middlewares and view in one thread, as under WSGI.
2. An asynchronous one that is exempt from the CSRF check, so that it knows no cookies (hosts' addresses, uploads and blobs): those of
   NEXA_COOKIELESS_MIDDLEWARE, all on the event loop. An exchange waits for 25 seconds, and many wait at once.
3. Any other: Django's way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.deprecation import MiddlewareMixin
from django.utils.module_loading import import_string


class PortalHandler(ASGIHandler):
    """Django's handler of ASGI, with the two shorter ways beside its own."""

    def __init__(self) -> None:
        super().__init__()
        self._threaded = BaseHandler()
        self._threaded.load_middleware()
        self._cookieless = _CookielessHandler()

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


def _view_of(path: str) -> Callable[..., Any] | None:
    """None: no view has this address, which is answered the synchronous way."""
    try:
        return resolve(path).func
    except Resolver404:
        return None
