"""Where allauth's ways of signing in need a view of ours."""

from __future__ import annotations

from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.openid_connect import views
from django.http import HttpRequest, HttpResponse
from requests import RequestException


def sign_in_elsewhere(request: HttpRequest, provider_id: str) -> HttpResponse:
    """allauth's view at its address. It asks the provider where people sign in there, and would answer 500 where that is away."""
    try:
        answer: HttpResponse = views.login(request, provider_id)
    except RequestException as error:
        answer = render_authentication_error(request, None, exception=error)
    return answer
