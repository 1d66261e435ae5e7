"""Static files by WhiteNoise, without a thread for each request that is not for one.

WhiteNoise's own middleware is synchronous: in an asynchronous chain, Django runs all that is inside of it from a thread that waits for
the end. The asynchronous views with cookies, a browser's uploads, are in such a chain (nexaportal/handling.py): each would hold a thread
as long as it takes, and database work of the view would queue behind it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]  # it has no types


class StaticFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]  # as said above
    """As WhiteNoiseMiddleware; in an asynchronous chain it only looks the path up, and opens files in a thread."""

    sync_capable: ClassVar[bool] = True
    async_capable: ClassVar[bool] = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._call_async(request)
        response: HttpResponseBase = super().__call__(request)
        return response

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(self.static_prefix):
            found = self.find_file(request.path_info) if self.autorefresh else self.files.get(request.path_info)
            if found is not None:
                served: HttpResponseBase = await sync_to_async(self.serve)(found, request)
                return served
        response: HttpResponseBase = await self.get_response(request)
        return response
