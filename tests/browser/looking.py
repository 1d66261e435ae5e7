"""The browser that looks: Debian's Chromium through playwright, signed in without the form, and loud about what a page does wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal
from unittest import mock

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from people.models import User

WIDTHS: Final = (360, 1280)
Scheme = Literal["light", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "dark")
NETWORK_CHANGED: Final = "net::ERR_NETWORK_CHANGED"
LOADS_MAX: Final = 5


@contextmanager
def browser_open() -> Iterator[Browser]:
    """Chromium, for as long as the block lasts. `devstack.packages` installs it."""
    program = shutil.which("chromium")
    assert program, "expected Chromium, found none: python -m devstack.packages installs it"
    # Playwright keeps a loop in this thread, and Django refuses its database where one runs. Nothing here is asynchronous.
    with mock.patch.dict(os.environ, {"DJANGO_ALLOW_ASYNC_UNSAFE": "true"}), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield browser
        finally:
            browser.close()


def session_cookie(user: User) -> str:
    """A signed-in session of `user`, as signing in makes it; to be called within the portal's database."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


def context_open(browser: Browser, origin: str, *, cookie: str = "", width: int = 1280, scheme: Scheme = "light") -> BrowserContext:
    """A browser profile of its own, with this session if one is given."""
    context = browser.new_context(
        base_url=origin, viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce", locale="en-GB"
    )
    if cookie:
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": origin}])
    return context


class Complaints:
    """What a page did wrong while it was looked at: errors of its console (refusals of the CSP among them), exceptions, failed requests."""

    def __init__(self, page: Page) -> None:
        self.found: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.found.append(f"exception: {error}"))
        page.on("requestfailed", self._failed)

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # whoever goes to another page ends what this one was still loading
            self.found.append(f"failed: {request.url} {request.failure}")

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.found.append(f"{message.type}: {message.text} ({message.location['url']})")


def page_load(page: Page, path: str, complaints: Complaints) -> Response:
    """Goes to a page and waits for all that it loads.

    Chromium drops every connection, also to its own machine, when the machine gets or loses a network, as another test's container may make
    one. What was dropped says nothing about the page: it is loaded anew, and complaints of the load before are forgotten. Nothing else is
    tried again.
    """
    for _ in range(LOADS_MAX):
        earlier = len(complaints.found)
        try:
            answer = page.goto(path, wait_until="load")
        except PlaywrightError as error:
            if NETWORK_CHANGED not in error.message:
                raise
            continue
        finally:
            if is_dropped := any(NETWORK_CHANGED in text for text in complaints.found[earlier:]):
                del complaints.found[earlier:]
        if not is_dropped:
            assert answer is not None, f"expected {path} to be another page than the one before"
            return answer
    raise AssertionError(f"expected {path} to load while no network of this machine comes or goes, found that one did {LOADS_MAX} times")
