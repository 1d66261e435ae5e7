"""A structure of a result in the browser: drawn, turned by keys and by itself, and there without a script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.looking import Complaints, context_open, page_load, session_cookie
from tests.browser.scene import Scene
from tests.client.live_portal import LivePortal

_STRUCTURE = "/jobs/{folded}/results/files/final.pdb"
_INK = """() => {
  const canvas = document.getElementById("structure-canvas");
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const context = copy.getContext("2d", { willReadFrequently: true });
  context.drawImage(canvas, 0, 0);
  const data = context.getImageData(0, 0, copy.width, copy.height).data;
  let count = 0, mark = 0;
  for (let place = 3; place < data.length; place += 4) if (data[place] > 0) { count += 1; mark = (mark * 31 + place) % 1000000007; }
  return { count, mark };
}"""
"""How many pixels differ from the empty canvas, and a number that changes with where they are."""
_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


@pytest.fixture
def cookie(portal: LivePortal, scene: Scene) -> str:
    with portal.database():
        return session_cookie(scene.researcher)


@pytest.fixture
def page(portal: LivePortal, scene: Scene, browser: Browser, cookie: str) -> Iterator[Page]:
    context = context_open(browser, portal.origin, cookie=cookie)
    opened = context.new_page()
    complaints = Complaints(opened)
    page_load(opened, scene.path(_STRUCTURE), complaints)
    opened.wait_for_selector("#structure[data-ready=yes]")
    opened.evaluate(_FRAMES)
    yield opened
    assert complaints.found == []
    context.close()


def test_structure_is_drawn_and_stands_still_for_who_wants_no_motion(page: Page) -> None:
    drawn = page.evaluate(_INK)
    assert drawn["count"] > 2000
    page.evaluate(_FRAMES)
    assert page.evaluate(_INK) == drawn
    assert page.locator("#structure-turn").get_attribute("aria-pressed") == "false"
    assert page.locator(".structure-flat").is_hidden()


@pytest.mark.parametrize("key", ["ArrowLeft", "ArrowUp", "+"])
def test_key_changes_the_picture_and_reset_brings_it_back(page: Page, key: str) -> None:
    before = page.evaluate(_INK)
    page.locator("#structure-canvas").press(key)
    page.evaluate(_FRAMES)
    assert page.evaluate(_INK) != before
    page.locator("#structure-reset").click()
    page.evaluate(_FRAMES)
    assert page.evaluate(_INK) == before


def test_pulling_turns_it(page: Page) -> None:
    before = page.evaluate(_INK)
    box = page.locator("#structure-canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 160, box["y"] + 130)
    page.mouse.up()
    page.evaluate(_FRAMES)
    assert page.evaluate(_INK) != before


def test_it_turns_by_itself_once_asked_to_and_pauses(page: Page) -> None:
    button = page.locator("#structure-turn")
    before = page.evaluate(_INK)
    button.click()
    page.wait_for_function(f"(before) => ({_INK})().mark !== before", arg=before["mark"])
    assert button.inner_text() == "Pause"
    button.click()
    page.evaluate(_FRAMES)
    still = page.evaluate(_INK)
    page.evaluate(_FRAMES)
    assert page.evaluate(_INK) == still


def test_without_a_script_there_is_a_flat_drawing(portal: LivePortal, scene: Scene, browser: Browser, cookie: str) -> None:
    context = browser.new_context(base_url=portal.origin, java_script_enabled=False)
    context.add_cookies([{"name": "sessionid", "value": cookie, "url": portal.origin}])
    opened = context.new_page()
    opened.goto(scene.path(_STRUCTURE))
    assert opened.locator(".structure-flat").is_visible()
    assert opened.locator(".structure-flat circle").count() > 50
    assert opened.locator("#structure-canvas").is_hidden()
    opened.goto(scene.path("/jobs/{folded}/results/files/energies.csv?as=plot"))
    opened.locator("button", has_text="Draw").click()
    assert "y=1" in opened.url
    assert opened.locator(".results-panels figure .plot-drawing").count() == 3
    context.close()
