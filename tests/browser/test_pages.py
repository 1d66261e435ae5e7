"""Every page, as it is looked at: axe-core's rules, a quiet console, nothing refused by the CSP, nothing wider than a phone."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.browser.looking import SCHEMES, WIDTHS, Complaints, context_open, page_load, session_cookie
from tests.browser.pages import PAGES, PageShown
from tests.browser.scene import Scene
from tests.client.live_portal import LivePortal

RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "resultTypes": ["violations"],  # a list of all that passed takes longer to write down than to find
}
NOT_FOUND = "Failed to load resource: the server responded with a status of 404"


@pytest.mark.parametrize("shown", PAGES, ids=lambda shown: f"{shown.path} as {shown.name or 'nobody'}")
def test_a_page_is_accessible_quiet_and_fits(shown: PageShown, portal: LivePortal, scene: Scene, browser: Browser) -> None:
    cookie = ""
    if shown.name:
        with portal.database():
            cookie = session_cookie(scene.person(shown.name))
    with context_open(browser, portal.origin, cookie=cookie) as context:
        page = context.new_page()
        complaints = Complaints(page)
        answer = page_load(page, scene.path(shown.path), complaints)
        for width, scheme in zip(WIDTHS, SCHEMES, strict=True):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            found = Axe().run(page, options=RULES)
            assert not found.response["violations"], f"{width} px, {scheme}: {found.generate_report()}"
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        expected = [NOT_FOUND] if answer.status == 404 else []
        assert [text for text in complaints.found if not any(allowed in text for allowed in expected)] == []
