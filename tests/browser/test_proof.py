"""A leaf's proof as a browser checks it: it holds, and one changed byte anywhere makes it fail where it should."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.looking import Complaints, context_open, page_load
from tests.browser.scene import Scene
from tests.client.live_portal import LivePortal

CHECKS = ("leaf", "fold", "root", "signature")
HOLDS, BROKEN = "is-done", "is-broken"


@pytest.fixture
def leaf_page(portal: LivePortal, scene: Scene, browser: Browser) -> Iterator[Page]:
    context = context_open(browser, portal.origin)
    page = context.new_page()
    complaints = Complaints(page)
    page_load(page, "/ledger/3/", complaints)
    expect(page.locator("[data-proof]")).to_have_attribute("data-checked", "holds")
    yield page
    assert complaints.found == []
    context.close()


def verdicts(page: Page) -> tuple[str, ...]:
    return tuple(str(page.locator(f'[data-check="{name}"]').get_attribute("class")) for name in CHECKS)


def test_a_proof_holds_and_says_what_was_checked(leaf_page: Page) -> None:
    assert verdicts(leaf_page) == (HOLDS,) * 4
    expect(leaf_page.locator('[data-check="leaf"]')).to_contain_text("is the leaf hash")
    expect(leaf_page.locator('[data-check="root"]')).to_contain_text("It is the root of the checkpoint over")


def test_a_changed_byte_of_the_leaf_is_seen_and_putting_it_back_heals(leaf_page: Page) -> None:
    leaf_page.get_by_role("button", name="Change a byte of the leaf").click()
    expect(leaf_page.locator("[data-proof]")).to_have_attribute("data-checked", "broken")
    assert verdicts(leaf_page) == (BROKEN, HOLDS, BROKEN, HOLDS)
    expect(leaf_page.locator('[data-check="root"]')).to_contain_text("this leaf is not in it")
    leaf_page.get_by_role("button", name="Put it back").click()
    expect(leaf_page.locator("[data-proof]")).to_have_attribute("data-checked", "holds")


@pytest.mark.parametrize(
    ("element", "pattern", "replacement", "expected"),
    [
        ("leaf-hash", "^.", "_", (BROKEN, HOLDS, HOLDS, HOLDS)),
        ("inclusion-proof", "^.{44}\\n", "", (HOLDS, BROKEN, BROKEN, HOLDS)),
        ("inclusion-proof", "^.{5}", "AAAAA", (HOLDS, HOLDS, BROKEN, HOLDS)),
        ("checkpoint-note", "\\n[A-Za-z0-9+/]{5}", "\\nAAAAA", (HOLDS, HOLDS, BROKEN, BROKEN)),
        ("checkpoint-note", " [^ ]{70}(?=[^ ]*\\n$)", " AAAA", (HOLDS, HOLDS, HOLDS, BROKEN)),
        ("checkpoint-note", "^[^\\n]+", "elsewhere/ledger", (HOLDS, HOLDS, HOLDS, BROKEN)),
        ("checkpoint-note", "[^\\n]{20}\\n$", "AAAAAAAAAAAAAAAAAA==\\n", (HOLDS, HOLDS, HOLDS, BROKEN)),
        ("coordinator-keys", "^.{5}", "AAAAA", (HOLDS, HOLDS, HOLDS, BROKEN)),
    ],
)
def test_what_else_is_changed_fails_where_it_should(
    leaf_page: Page, element: str, pattern: str, replacement: str, expected: tuple[str, ...]
) -> None:
    leaf_page.evaluate(
        "([id, pattern, by]) => { const e = document.getElementById(id); e.textContent = e.textContent.replace(new RegExp(pattern), by); }",
        [element, pattern, replacement.replace("\\n", "\n")],
    )
    leaf_page.evaluate("delete document.querySelector('[data-proof]').dataset.checked")
    leaf_page.get_by_role("button", name="Check again").click()
    expect(leaf_page.locator("[data-proof]")).to_have_attribute("data-checked", "broken")
    assert verdicts(leaf_page) == expected


@pytest.mark.parametrize(
    ("script", "word"),
    [
        ("Object.defineProperty(crypto, 'subtle', { value: undefined })", "https pages only"),
        (
            "crypto.subtle.importKey = () => Promise.reject(new DOMException('no', 'NotSupportedError'))",
            "verify Ed25519",
        ),
    ],
)
def test_a_browser_that_can_not_check_says_so(script: str, word: str, portal: LivePortal, scene: Scene, browser: Browser) -> None:
    context = context_open(browser, portal.origin)
    context.add_init_script(script)
    page = context.new_page()
    page_load(page, "/ledger/3/", Complaints(page))
    expect(page.locator("[data-proof]")).to_have_attribute("data-checked", "partly")
    expect(page.locator('[data-check="signature"]')).to_contain_text(word)
    context.close()
