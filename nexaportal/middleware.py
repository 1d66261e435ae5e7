"""What middlewares of our own share: each stands in synchronous and asynchronous chains alike, so that Django puts no thread between."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class TwoWayMiddleware(ABC):
    """A middleware with a way of its own for each kind of chain."""

    sync_capable: ClassVar[bool] = True
    async_capable: ClassVar[bool] = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        return self._call_async(request) if self._is_async else self._call(request)

    @abstractmethod
    def _call(self, request: HttpRequest) -> HttpResponseBase:
        """The answer in a synchronous chain."""

    @abstractmethod
    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        """The answer in an asynchronous chain."""
