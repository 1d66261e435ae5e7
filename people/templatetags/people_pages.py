"""The tabs of the account pages, and a browser's words for itself as people know it."""

from __future__ import annotations

from typing import Any, Final

from allauth.socialaccount.adapter import get_adapter
from django import template
from django.urls import reverse

register = template.Library()

TABS: Final = (
    ("Overview", "account-page", ()),
    ("Profile", "account-profile", ()),
    ("Sign-in", "mfa_index", ("/accounts/2fa/", "/accounts/email/", "/accounts/password/", "/accounts/3rdparty/")),
    ("Sessions", "usersessions_list", ()),
    ("API tokens", "account-tokens", ("/account/tokens/",)),
    ("Team", "account-team", ("/account/team/",)),
    ("Research", "account-research", ()),
)
_BROWSERS: Final = (
    ("Firefox/", "Firefox"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Chrome/", "Chromium"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


@register.inclusion_tag("people/_tabs.html", takes_context=True)
def account_tabs(context: dict[str, Any]) -> dict[str, Any]:
    """One tab a place; the one that the request is at is marked."""
    here: str = context["request"].path
    tabs = []
    for name, url_name, prefixes in TABS:
        href = reverse(url_name)
        tabs.append({"name": name, "href": href, "is_here": here == href or here.startswith(prefixes or (href + "\0",))})
    return {"tabs": tabs}


@register.simple_tag(takes_context=True)
def providers_offered(context: dict[str, Any]) -> list[Any]:
    """Where accounts from elsewhere may come from; empty without NEXA_OPENID_PROVIDERS."""
    return list(get_adapter().list_providers(context["request"]))


@register.filter
def browser_words(user_agent: str) -> str:
    """`Firefox on Linux`; what isn't known keeps its own words, cut."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), None)
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), None)
    if browser is None:
        return user_agent[:60] or "unknown"
    return f"{browser} on {system}" if system else browser
