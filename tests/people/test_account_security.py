"""What strangers try at the doors: guessing, asking who is here, leading people away, forging forms, reading the database."""

from __future__ import annotations

import re
import time
from io import StringIO

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.core import mail
from django.core.cache import cache
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client, override_settings

from people.models import User
from people.sign_in import SecondFactorAdapter
from tests.factories.people import moderator_make, user_make

pytestmark = pytest.mark.django_db

PASSWORD = "as calm as paper 1900"


@pytest.fixture(autouse=True)
def _no_attempts_yet() -> None:
    cache.clear()


def person_make(name: str = "marie") -> User:
    user = user_make(name)
    user.set_password(PASSWORD)
    user.save()
    user.emailaddress_set.create(email=user.email, verified=True, primary=True)  # type: ignore[attr-defined]  # allauth has no types
    return user


def sign_in(client: Client, name: str, password: str, **more: str) -> tuple[int, str]:
    response = client.post("/accounts/login/", {"login": name, "password": password, **more})
    return response.status_code, response.headers.get("Location") or re.sub(r"csrf\w+\" value=\"[^\"]+", "", response.content.decode())


def test_guessing_a_password_ends_after_some_attempts_even_with_the_right_one() -> None:
    person_make()
    for _ in range(5):
        assert "not correct" in sign_in(Client(), "marie", "wrong")[1]
    status, text = sign_in(Client(), "marie", PASSWORD)
    assert status == 200
    assert "Too many failed login attempts" in text


def test_guessing_many_accounts_from_one_address_ends_too() -> None:
    statuses = [sign_in(Client(), f"person{number}", "wrong")[0] for number in range(31)]
    assert statuses[0] == 200
    assert statuses[-1] == 429 or "Too many" in sign_in(Client(), "another", "wrong")[1]


def test_too_many_sign_ups_are_answered_by_a_page() -> None:
    answers = [Client().post("/accounts/signup/", {"username": f"u{number}"}) for number in range(21)]
    assert answers[-1].status_code == 429
    assert "Too many attempts" in answers[-1].content.decode()


def test_sign_in_answers_alike_whether_there_is_an_account() -> None:
    person_make()
    assert sign_in(Client(), "marie", "wrong")[1].replace("marie", "nobody") == sign_in(Client(), "nobody", "wrong")[1]


def test_reset_answers_alike_and_tells_the_owner_of_the_address_only() -> None:
    person_make()
    known = Client().post("/accounts/password/reset/", {"email": "marie@example.org"})
    unknown = Client().post("/accounts/password/reset/", {"email": "nobody@example.org"})
    assert (known.status_code, known.headers["Location"]) == (unknown.status_code, unknown.headers["Location"])
    assert [("/accounts/password/reset/key/" in one.body, one.to) for one in mail.outbox] == [
        (True, ["marie@example.org"]),
        (False, ["nobody@example.org"]),
    ]


def test_sign_up_answers_alike_whether_the_address_has_an_account() -> None:
    person_make()
    answers = []
    for name, address in (("pierre", "marie@example.org"), ("irene", "irene@example.org")):
        words = {"email": address, "username": name, "password1": PASSWORD, "password2": PASSWORD}
        response = Client().post("/accounts/signup/", words)
        answers.append((response.status_code, response.headers["Location"]))
    assert answers[0] == answers[1]
    assert not User.objects.filter(username="pierre").exists()


def test_sign_up_says_that_a_name_is_taken_and_nothing_of_whose_it_is() -> None:
    """Names are handles, which people must be able to choose; addresses are not told, and attempts are counted (above)."""
    person_make()
    User.objects.filter(username="marie").update(display_name="NightOwl", about="two desktops", is_public=False)
    for name in ("MARIE", "nightowl"):
        words = {"email": "irene@example.org", "username": name, "password1": PASSWORD, "password2": PASSWORD}
        page = Client().post("/accounts/signup/", words)
        assert page.status_code == 200
        text = page.content.decode()
        assert "already" in text
        assert not [word for word in ("marie@example.org", "two desktops", "NightOwl") if word in text]
    assert not User.objects.filter(email="irene@example.org").exists()


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "https:evil.example"]
)
def test_next_leads_nowhere_else(target: str) -> None:
    person_make()
    assert sign_in(Client(), "marie", PASSWORD, next=target) == (302, "/")


def test_next_leads_on_within_the_portal() -> None:
    person_make()
    assert sign_in(Client(), "marie", PASSWORD, next="/account/tokens/") == (302, "/account/tokens/")


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/login/",
        "/account/profile/",
        "/account/tokens/",
        "/account/tokens/1/revoke/",
        "/account/sessions/1/end/",
        "/account/research/",
        "/account/team/",
        "/account/team/leave/",
        "/account/team/invitation/",
        "/account/team/join/x/",
    ],
)
def test_forms_from_elsewhere_do_nothing(path: str) -> None:
    client = Client(enforce_csrf_checks=True)
    if path != "/accounts/login/":
        client.force_login(user_make(), backend="django.contrib.auth.backends.ModelBackend")
    assert client.post(path).status_code == 403


def test_the_admin_has_no_sign_in_of_its_own() -> None:
    """It would go around second factors and limits."""
    moderator = moderator_make()
    moderator.set_password(PASSWORD)
    moderator.save()
    answer = Client().post("/admin/login/", {"username": moderator.username, "password": PASSWORD})
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/accounts/login/")
    assert "sessionid" not in answer.cookies


def test_second_factors_stop_who_has_the_password() -> None:
    user, client = person_make(), Client()
    TOTP.activate(user, "JBSWY3DPEHPK3PXP")
    assert sign_in(client, "marie", PASSWORD) == (302, "/accounts/2fa/authenticate/")
    assert client.get("/account/").status_code == 302


def test_secrets_of_second_factors_are_not_in_the_database_as_they_are() -> None:
    TOTP.activate(person_make(), "JBSWY3DPEHPK3PXP")
    stored = str(Authenticator.objects.get().data)
    assert "JBSWY3DPEHPK3PXP" not in stored
    assert SecondFactorAdapter().decrypt(Authenticator.objects.get().data["secret"]) == "JBSWY3DPEHPK3PXP"


def test_secrets_outlive_a_change_of_the_secret_key() -> None:
    with override_settings(SECRET_KEY="the one before"):
        secret = SecondFactorAdapter().encrypt("JBSWY3DPEHPK3PXP")
    with override_settings(SECRET_KEY_FALLBACKS=["the one before"]):
        assert SecondFactorAdapter().decrypt(secret) == "JBSWY3DPEHPK3PXP"


def codes_of(secret: str) -> list[str]:
    """What an authenticator app with this secret shows about now."""
    now = int(time.time()) // 30
    return [format_hotp_value(hotp_value(secret, now + step)) for step in (-1, 0, 1)]


def test_after_another_secret_key_no_code_fits_and_the_page_says_so_instead_of_breaking() -> None:
    TOTP.activate(person_make(), "JBSWY3DPEHPK3PXP")
    generate_recovery_codes = RecoveryCodes.activate(User.objects.get()).get_unused_codes
    codes = [*codes_of("JBSWY3DPEHPK3PXP"), *codes_of(""), generate_recovery_codes()[0]]
    with override_settings(SECRET_KEY="another, as the first one leaked"):
        client = Client()
        sign_in(client, "marie", PASSWORD)
        for code in codes:
            cache.clear()
            answer = client.post("/accounts/2fa/authenticate/", {"code": code})
            assert (answer.status_code, "Incorrect code" in answer.content.decode()) == (200, True)


def test_what_the_secret_key_does_not_open_is_removed_and_nothing_else() -> None:
    with override_settings(SECRET_KEY="the one before"):
        TOTP.activate(person_make("marie"), "JBSWY3DPEHPK3PXP")
        RecoveryCodes.activate(User.objects.get())
    TOTP.activate(person_make("lise"), "JBSWY3DPEHPK3PXP")
    said = StringIO()
    call_command("second_factors_remove", "--unreadable", stdout=said)
    assert said.getvalue() == "removed: 2\n"
    assert [one.user.username for one in Authenticator.objects.all()] == ["lise"]
    assert sign_in(Client(), "marie", PASSWORD)[1] != "/accounts/2fa/authenticate/"
    call_command("second_factors_remove", "Lise@example.org", stdout=said)
    assert not Authenticator.objects.exists()
    with pytest.raises(CommandError, match="Expected the address"):
        call_command("second_factors_remove", "nobody@example.org")


PROVIDER = {
    "provider_id": "lab",
    "name": "The Lab",
    "client_id": "nexa",
    "secret": "s",
    "settings": {"server_url": "https://id.lab.example"},
}


def test_accounts_from_elsewhere_are_offered_only_where_they_are_set() -> None:
    assert "account from elsewhere" not in Client().get("/accounts/login/").content.decode()
    with override_settings(SOCIALACCOUNT_PROVIDERS={"openid_connect": {"APPS": [PROVIDER]}}):
        for path in ("/accounts/login/", "/accounts/signup/"):
            text = Client().get(path).content.decode()
            assert "The Lab" in text
            assert "/accounts/oidc/lab/login/" in text
