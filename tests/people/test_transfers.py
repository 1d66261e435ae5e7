"""Credits that people give each other: once, to whoever is here, out of what they have; and the page, which asks who it is."""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit
from uuid import UUID, uuid4

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from ledger.models import Entry
from ledger.movements import CreditsInsufficientError
from ledger.services import account_of, escrow_account
from people.errors import TransferAmountInvalidError, TransferReceiverUnknownError, TransferSentBeforeError, TransfersTooManyError
from people.models import User
from people.notifications.mailing import mails_send
from people.notifications.models import Notification
from people.notifications.services import settings_set
from people.services import profile_change
from people.transfers.services import A_DAY, AMOUNT_LEAST_MICRO, credits_send
from tests.factories.jobs import credits_grant
from tests.factories.people import user_make

pytestmark = pytest.mark.django_db
PASSWORD = "as calm as paper 1900"


@pytest.fixture
def ada() -> User:
    """With 5 credits."""
    user = user_make("ada")
    credits_grant(user, 5_000_000)
    return user


@pytest.fixture
def lise() -> User:
    return user_make("lise")


def give(sender: User, to: User, micro: int = 1_250_000, number: UUID | None = None) -> Entry:
    return credits_send(sender=sender, account_id=account_of(user=to).pk, amount_micro=micro, transfer_id=number or uuid4())


def balances(*people: User) -> list[int]:
    return [account_of(user=user).balance_micro for user in people]


def test_credits_go_to_another_person_who_is_told(ada: User, lise: User) -> None:
    entry = give(ada, lise)
    assert balances(ada, lise) == [3_750_000, 1_250_000]
    told = Notification.objects.get(owner=lise)
    assert (told.kind, told.subject, told.path) == ("credits.received", "1.25 credits came to your account", "/bank/")
    assert told.data == {"entry": str(entry.pk), "from": str(account_of(user=ada).pk), "amount_micro": "1250000"}
    assert mails_send() == 1
    [sent] = mail.outbox
    assert (sent.to, sent.subject) == (["lise@example.org"], "[NEXAPod] 1.25 credits came to your account")
    assert "ada" not in told.text + sent.body  # ledger accounts have no names


def test_who_wants_no_mail_gets_none(ada: User, lise: User) -> None:
    settings_set(owner=lise, wanted={})
    give(ada, lise)
    assert mails_send() == 0
    assert not Notification.objects.exists()


def test_the_same_transfer_again_gives_once_and_another_under_its_id_is_refused(ada: User, lise: User) -> None:
    number = uuid4()
    entry = give(ada, lise, number=number)
    assert give(ada, lise, number=number) == entry
    with pytest.raises(TransferSentBeforeError, match="Your statement says what it gave"):
        give(ada, lise, 2_000_000, number=number)
    with pytest.raises(TransferSentBeforeError):
        give(ada, user_make(), number=number)
    assert balances(ada, lise) == [3_750_000, 1_250_000]
    assert Notification.objects.filter(owner=lise).count() == 1
    give(lise, ada, 1_000_000, number=number)  # each person's ids are their own


def test_only_other_people_who_are_here_can_be_given_to(ada: User, lise: User) -> None:
    account_of(user=lise)
    User.objects.filter(pk=lise.pk).update(is_active=False)
    for account_id in (uuid4(), account_of(user=ada).pk, account_of(user=lise).pk, escrow_account().pk):
        with pytest.raises(TransferReceiverUnknownError, match="Expected the account of another person"):
            credits_send(sender=ada, account_id=account_id, amount_micro=1_000_000, transfer_id=uuid4())
    assert balances(ada) == [5_000_000]


@pytest.mark.parametrize("micro", [AMOUNT_LEAST_MICRO - 1, 0, -1_000_000])
def test_less_than_the_least_is_no_amount(ada: User, lise: User, micro: int) -> None:
    with pytest.raises(TransferAmountInvalidError, match=r"Expected 0\.01 credits or more"):
        give(ada, lise, micro)


def test_nobody_gives_more_than_they_have(ada: User, lise: User) -> None:
    with pytest.raises(CreditsInsufficientError, match=r"at most the 5\.000000 credits that you have, found 5\.000001"):
        give(ada, lise, 5_000_001)
    assert balances(ada, lise) == [5_000_000, 0]


def test_a_day_has_so_many_transfers_of_a_person(ada: User, lise: User) -> None:
    number = uuid4()
    give(ada, lise, AMOUNT_LEAST_MICRO, number)
    for _ in range(A_DAY - 1):
        give(ada, lise, AMOUNT_LEAST_MICRO)
    with pytest.raises(TransfersTooManyError, match="Expected at most 20 transfers in 24 hours"):
        give(ada, lise, AMOUNT_LEAST_MICRO)
    give(ada, lise, AMOUNT_LEAST_MICRO, number)  # it was given already
    give(lise, ada, AMOUNT_LEAST_MICRO)  # what came doesn't count


# --- the page ------------------------------------------------------------------------------------------------------------


def client_of(user: User, *, is_certain: bool = True) -> Client:
    """Signed in; `is_certain`: and has said a moment ago again who it is."""
    user.set_password(PASSWORD)
    user.save()
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    if is_certain:
        client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    return client


def address(to: object, amount: str = "1.25", number: UUID | None = None) -> str:
    return "/bank/give/?" + urlencode({"to": str(to), "credits": amount, "transfer": str(number or uuid4())})


def test_the_page_says_what_it_will_do_and_does_it_when_told(ada: User, lise: User) -> None:
    client, where = client_of(ada), address(account_of(user=lise).pk)
    review = client.get(where).content.decode()
    assert "Give 1.25 credits?" in review
    assert "somebody who shows no name here" in review
    assert "lise" not in review
    assert "3.75 credits" in review
    assert balances(ada, lise) == [5_000_000, 0]
    for _ in range(2):  # a double click
        assert urlsplit(client.post(where).headers["Location"]).path == "/bank/"
    assert balances(ada, lise) == [3_750_000, 1_250_000]
    assert "Sent." in client.get("/bank/").content.decode()


def test_who_shows_themselves_is_named(ada: User, lise: User) -> None:
    profile_change(user=lise, display_name="Lise M.", about="", is_public=True)
    assert "Lise M." in client_of(ada).get(address(account_of(user=lise).pk)).content.decode()


@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        (("nobody", "1"), 400, "Expected an id such as"),
        (("0b9f4a1e-3c55-4f0d-8f4f-7a1d5f3c2b02", "1"), 404, "Expected the account of another person"),
        (("lise", "9.5"), 402, "Expected at most the 5.000000 credits that you have"),
        (("lise", "0.001"), 400, "Expected 0.01 credits or more"),
        (("lise", "-1"), 400, "Expected 0.01 credits or more"),
        (("lise", "nan"), 400, "Expected a number such as 2.5"),
        (("lise", "1e400"), 400, "digits"),
        (("lise", "1.0000001"), 400, "6 decimal places"),
    ],
)
def test_what_cannot_be_given_is_refused_in_words_at_the_form(
    ada: User, lise: User, given: tuple[str, str], status: int, words: str
) -> None:
    client, (to, amount) = client_of(ada), given
    answer = client.post(address(account_of(user=lise).pk if to == "lise" else to, amount))
    assert answer.status_code == status
    assert words in answer.content.decode()
    assert balances(ada, lise) == [5_000_000, 0]


def test_the_button_asks_once_more_who_it_is_and_loses_nothing(ada: User, lise: User) -> None:
    client, where = client_of(ada, is_certain=False), address(account_of(user=lise).pk)
    assert "Give 1.25 credits?" in client.get(where).content.decode()
    asked = client.post(where)
    assert (asked.status_code, urlsplit(asked.headers["Location"]).path) == (302, "/accounts/reauthenticate/")
    client.post(asked.headers["Location"], {"password": "another"})
    client.post(where)
    assert balances(ada, lise) == [5_000_000, 0]
    back = client.post(client.post(where).headers["Location"], {"password": PASSWORD}, follow=True)
    assert "Give 1.25 credits?" in back.content.decode()
    assert client.post(where).status_code == 302
    assert balances(ada, lise) == [3_750_000, 1_250_000]


def test_a_transfer_stands_in_both_statements_with_the_other_account(ada: User, lise: User) -> None:
    give(ada, lise)
    for reader, other, amount in ((ada, lise, "-1.250000"), (lise, ada, "1.250000")):
        client = client_of(reader)
        lines = b"".join(client.get("/bank/statement.csv")).decode().splitlines()
        assert lines[-1].split(",")[2:5] == ["transfer", amount, f"{balances(reader)[0] / 1e6:.6f}"]
        assert lines[-1].endswith(f",{account_of(user=other).pk}")
        assert client.get("/api/v1/account/statement").json()["lines"][0]["other_account"] == str(account_of(user=other).pk)
        assert str(account_of(user=other).pk) in client.get("/bank/").content.decode()
