"""The looking itself: what has nothing to do with a page is not held against it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Route

from tests.browser.looking import LOADS_MAX, NETWORK_CHANGED, Complaints, page_load

ADDRESS = "http://page.invalid/"


def _loads(browser: Browser, *, dropped: int, complaint: str) -> tuple[int, list[str], str]:
    """Loads a page that says `complaint` the first `dropped` times: how often it was loaded, what was held against it, what was raised."""
    loads = 0

    def answer(route: Route) -> None:
        nonlocal loads
        loads += 1
        script = f"console.error('{complaint}')" if loads <= dropped else ""
        route.fulfill(content_type="text/html", body=f"<!doctype html><script>{script}</script>")

    with browser.new_context() as context:
        page = context.new_page()
        page.route(ADDRESS, answer)
        complaints, raised = Complaints(page), ""
        complaints.found.append("of an earlier page")
        try:
            page_load(page, ADDRESS, complaints)
        except AssertionError as error:
            raised = str(error)
        return loads, complaints.found, raised


@pytest.mark.parametrize(("dropped", "loads"), [(0, 1), (2, 3)])
def test_page_is_loaded_anew_where_the_network_changed_meanwhile(browser: Browser, dropped: int, loads: int) -> None:
    """The page says itself what Chromium says then, which no test can have happen without harm to others."""
    assert _loads(browser, dropped=dropped, complaint=NETWORK_CHANGED) == (loads, ["of an earlier page"], "")


def test_network_that_never_rests_is_told(browser: Browser) -> None:
    loads, found, raised = _loads(browser, dropped=99, complaint=NETWORK_CHANGED)
    assert (loads, found) == (LOADS_MAX, ["of an earlier page"])
    assert f"found that one did {LOADS_MAX} times" in raised


def test_whatever_else_is_wrong_is_held_against_the_page_at_once(browser: Browser) -> None:
    loads, found, raised = _loads(browser, dropped=1, complaint="net::ERR_CONNECTION_RESET")
    assert (loads, len(found), raised) == (1, 2, "")
    assert "net::ERR_CONNECTION_RESET" in found[1]
