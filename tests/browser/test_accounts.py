"""A person signs up, confirms by the mail's link, signs in, adds an authenticator app or a passkey, and signs in with it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from playwright.sync_api import Browser, Page, expect
from pytest_django import DjangoDbBlocker

from tests.browser.hands import authenticator_add, confirm_access, sign_in, sign_up, totp
from tests.browser.looking import Complaints, context_open
from tests.client.live_portal import LivePortal


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    folder = tmp_path / "mail"
    folder.mkdir()
    return folder


@pytest.fixture
def own_portal(django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path: Path, mails: Path) -> Iterator[LivePortal]:
    """A portal that nobody has an account at, and that writes its mails to files. Browsers give passkeys to localhost, not to 127.0.0.1."""
    live = LivePortal(django_db_blocker)
    live.origin = f"http://localhost:{live.port}"
    written = {"NEXA_EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend", "NEXA_EMAIL_FOLDER": str(mails)}
    try:
        with mock.patch.dict(os.environ, written):
            live.start(tmp_path / "uvicorn.log")
        yield live
    finally:
        live.stop()


@pytest.fixture
def page(browser: Browser, own_portal: LivePortal) -> Iterator[Page]:
    context = context_open(browser, own_portal.origin)
    opened = context.new_page()
    complaints = Complaints(opened)
    yield opened
    context.close()
    assert complaints.found == []


def sign_out(page: Page) -> None:
    page.locator("details.menu summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_a_person_signs_up_and_signs_in_with_an_authenticator_app(page: Page, mails: Path) -> None:
    sign_up(page, mails, "marie")
    sign_in(page, "marie")
    page.goto("/account/")
    expect(page.get_by_role("heading", name="marie")).to_be_visible()
    secret = authenticator_add(page)
    sign_out(page)
    sign_in(page, "marie")
    expect(page.get_by_label("Code")).to_be_visible()
    page.get_by_label("Code").fill("000000")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").first).to_contain_text("Incorrect code")
    page.get_by_label("Code").fill(totp(secret, time.time() + 30))  # the next one: a code is used once
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("details.menu")).to_contain_text("marie")


def test_a_person_signs_in_with_a_passkey_alone(page: Page, mails: Path) -> None:
    sign_up(page, mails, "pierre")
    sign_in(page, "pierre")
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    kind = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": kind})
    page.goto("/accounts/2fa/webauthn/add/")
    confirm_access(page)
    page.get_by_label("Name").fill("desk")
    page.get_by_label("Passwordless").check()
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    page.get_by_label("I have saved my recovery codes").check()
    page.goto("/accounts/2fa/webauthn/")
    expect(page.get_by_role("cell", name="passkey", exact=True)).to_be_visible()
    sign_out(page)
    page.goto("/accounts/login/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.locator("details.menu")).to_contain_text("pierre")
