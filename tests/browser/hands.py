"""What people do by hand in several tests: sign up by the mail's link, sign in, add a second factor, drop a file."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from django.db import connections
from playwright.sync_api import Page, expect

from jobs.services.outbox import outbox_push

PASSWORD: Final = "as calm as paper 1900"


def mailed_link(mails: Path, pattern: str) -> str:
    """The newest link of this form in the mails; quoted-printable has no say here, lines are short."""
    texts = [file.read_text() for file in sorted(mails.iterdir(), key=lambda file: file.stat().st_mtime_ns)]
    found = re.findall(pattern, "\n".join(texts).replace("=\n", ""))
    assert found, texts
    return str(found[-1])


def sign_up(page: Page, mails: Path, name: str) -> None:
    page.goto("/accounts/signup/")
    page.get_by_label("E-mail").fill(f"{name}@example.org")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password (again)").fill(PASSWORD)
    page.get_by_role("button", name="Sign up").click()
    email_confirm(page, mails)


def email_confirm(page: Page, mails: Path) -> None:
    """What is next where an address has not been confirmed."""
    expect(page.get_by_role("heading", name="Confirm your e-mail address")).to_be_visible()
    page.goto(mailed_link(mails, r"http://\S+/accounts/confirm-email/\S+/"))
    page.get_by_role("button", name="Confirm").click()


def sign_in(page: Page, name: str) -> None:
    page.goto("/accounts/login/")
    page.get_by_label("Username or e-mail").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url(lambda url: "/accounts/login/" not in url)


def totp(secret: str, at: float) -> str:
    """RFC 6238: six digits, 30 seconds, SHA-1."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(at) // 30), hashlib.sha1).digest()
    start = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[start : start + 4])[0] & 0x7FFFFFFF) % 10**6:06d}"


def confirm_access(page: Page) -> None:
    """Changing how one signs in asks for the password once more."""
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()


def authenticator_add(page: Page) -> str:
    """An authenticator app for whoever has just signed in; its secret."""
    page.goto("/accounts/2fa/")
    page.get_by_role("link", name="Add an authenticator app").click()
    confirm_access(page)
    secret = page.get_by_label("Secret").input_value()
    page.get_by_label("Authenticator code").fill(totp(secret, time.time()))
    page.get_by_role("button", name="Add the app").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    page.get_by_label("I have saved my recovery codes").check()
    return secret


def pushed() -> int:
    """What the control worker does. In a thread: playwright has a loop in this one, and the channel layer wants its own."""

    def push() -> int:
        try:
            return outbox_push()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(push).result()


def file_drop(page: Page, name: str, data: bytes) -> None:
    """As somebody who drags a file from their desk."""
    text = data.decode("latin-1")
    transfer = page.evaluate_handle(
        """([name, text]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(text, (one) => one.charCodeAt(0))], name));
            return transfer;
        }""",
        [name, text],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
