"""What a page that is open is answered once its session has ended.

Left alone, a script that asks for a part of a page follows the redirect to the sign-in page and puts that in the part's place. So whoever
says `HX-Request: true` (htmx, and fetches of ours) gets 401 instead: a problem, with the way to sign in and back to the page that asked
(`HX-Redirect`, which htmx follows).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest
from django.http.response import HttpResponseBase, HttpResponseRedirectBase
from django.shortcuts import resolve_url
from django.utils.http import url_has_allowed_host_and_scheme

from jobs.gateway.requests import NotAuthenticatedError
from nexaportal.middleware import TwoWayMiddleware
from nexaportal.problems import problem_response

_WORDS: Final = "You are signed out. Sign in again; you then come back to the page that you were on."


class SignedOutMiddleware(TwoWayMiddleware):
    """Stands around whatever sends people to sign in: views and the authentication."""

    def _call(self, request: HttpRequest) -> HttpResponseBase:
        return _answered(request, self._get_response(request))

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        return _answered(request, await self._get_response(request))


def _answered(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if request.headers.get("HX-Request") != "true" or not isinstance(response, HttpResponseRedirectBase):
        return response
    if urlsplit(response.url).path != resolve_url(settings.LOGIN_URL):
        return response
    refusal = problem_response(NotAuthenticatedError(_WORDS))
    refusal.headers["HX-Redirect"] = redirect_to_login(_page_of(request)).url
    return refusal


def _page_of(request: HttpRequest) -> str:
    """The path of the page that asks, as the script says; `/` if that is no page of ours: nobody is led elsewhere by signing in."""
    told = request.headers.get("HX-Current-URL", "")
    if not url_has_allowed_host_and_scheme(told, allowed_hosts={request.get_host()}):
        return "/"
    parts = urlsplit(told)
    path = parts._replace(scheme="", netloc="", fragment="").geturl()
    return path if url_has_allowed_host_and_scheme(path, allowed_hosts=None) else "/"
