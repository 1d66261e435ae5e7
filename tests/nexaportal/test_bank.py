"""The bank: one's own figures, those of the ledger, and nobody else's."""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from itertools import accumulate
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.core import signing
from django.test import AsyncClient, Client
from pytest_django import DjangoAssertNumQueries

from ledger.checkpoints import checkpoint_publish
from ledger.models import Account, Posting
from ledger.services import account_of, grant_post, reservation_of
from nexaportal.bank import PAGE_LINES
from people.models import User
from people.statements import EXPORT_LINES, statement_json, statement_lines
from tests.factories.jobs import credits_grant, funded_researcher_make, job_make
from tests.factories.ledger import entry_post
from tests.factories.people import user_make

PATHS = ("/bank/", "/bank/statement.csv", "/bank/statement.json")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def body_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return (b"".join(response.streaming_content) if response.streaming else response.content).decode()  # type: ignore[attr-defined]


def account_with(amounts: list[int]) -> tuple[User, Account]:
    """A person whose account had these, in this order."""
    user = user_make()
    account = account_of(user=user)
    for amount in amounts:
        if amount > 0:
            credits_grant(user, amount)
        else:
            entry_post(reservation_of(account=account, job_id=uuid.uuid4(), amount_micro=-amount))
    account.refresh_from_db()
    return user, account


@pytest.mark.django_db
def test_nobody_sees_an_account_without_signing_in_and_each_sees_their_own() -> None:
    owner, account = account_with([1_234_567])
    stranger = user_make()
    assert [Client().get(path).status_code for path in PATHS] == [302, 302, 302]
    for path in PATHS:
        assert str(account.pk) in body_of(signed_in(owner), path) or path.endswith("csv")
        text = body_of(signed_in(stranger), path)
        assert str(account.pk) not in text
        assert "1.234567" not in text
    assert signed_in(owner).get("/bank/statement.pdf").status_code == 404
    assert signed_in(owner).post("/bank/").status_code == 405


@pytest.mark.django_db
def test_an_account_that_was_never_used_says_where_credits_come_from() -> None:
    text = body_of(signed_in(user_make()), "/bank/")
    assert "Nothing has moved on this account yet." in text
    assert 'href="/bank/give/"' not in text  # there is nothing to give


@pytest.mark.django_db
def test_each_line_has_the_balance_that_it_left_on_every_page() -> None:
    amounts = [100, -30, 7, -1, 50, -20, 9]
    _, account = account_with(amounts)
    found: list[tuple[int, int]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = statement_lines(account=account, cursor=cursor, limit=2)
        found += [(line.posting.amount_micro, line.balance_micro) for line in page.lines]
        cursor = page.older
    assert found == list(zip(amounts, accumulate(amounts), strict=True))[::-1]


@pytest.mark.django_db
def test_what_comes_in_between_changes_no_older_page() -> None:
    user, account = account_with([100, 50, 25])
    first = statement_lines(account=account, cursor="", limit=2)
    credits_grant(user, 1000)
    [line] = statement_lines(account=account, cursor=first.older or "", limit=2).lines
    assert (line.posting.amount_micro, line.balance_micro) == (100, 100)


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["nonsense", "another's", "own words"])
def test_a_cursor_that_is_not_this_accounts_shows_the_newest(kind: str) -> None:
    user, account = account_with([100, 50, 25])
    _, other = account_with([1, 2, 3])
    cursor = {
        "nonsense": "x:y:z",
        "another's": statement_lines(account=other, cursor="", limit=1).older or "",
        "own words": signing.dumps([1, 10**12]),
    }[kind]
    page = statement_lines(account=account, cursor=cursor, limit=2)
    assert [line.balance_micro for line in page.lines] == [175, 150]
    assert "175" in body_of(signed_in(user), f"/bank/?before={cursor}")


@pytest.mark.django_db
def test_the_page_links_leaves_and_own_jobs_and_shows_what_is_reserved() -> None:
    researcher = funded_researcher_make()
    job = job_make(researcher)
    checkpoint_publish()
    text = body_of(signed_in(researcher), "/bank/")
    assert text.count(f'href="/jobs/{job.pk}/"') == 2  # as a reservation that is open, and as a line
    posting = Posting.objects.get(account__owner=researcher, entry__kind="reservation")
    assert f'href="/ledger/{posting.entry.item.leaf.index}/"' in text
    assert re.search(r"open jobs</dt><dd><span class=\"value\">1<", text)
    job_make(researcher)
    assert '<span class="muted" title="the next checkpoint takes it in">soon</span>' in body_of(signed_in(researcher), "/bank/")


@pytest.mark.django_db
def test_downloads_hold_the_whole_statement_oldest_first() -> None:
    amounts = [100, -30, 7]
    user, account = account_with(amounts)
    checkpoint_publish()
    document = json.loads(body_of(signed_in(user), "/bank/statement.json"))
    assert document["account_id"] == str(account.pk)
    assert [(line["amount_micro"], line["balance_micro"], line["index"]) for line in document["lines"]] == [
        ("100", "100", 0),
        ("-30", "70", 1),
        ("7", "77", 2),
    ]
    rows = list(csv.DictReader(io.StringIO(body_of(signed_in(user), "/bank/statement.csv"))))
    assert [(row["leaf"], row["credits"], row["balance"]) for row in rows] == [
        ("0", "0.000100", "0.000100"),
        ("1", "-0.000030", "0.000070"),
        ("2", "0.000007", "0.000077"),
    ]
    empty = json.loads(body_of(signed_in(user_make()), "/bank/statement.json"))
    assert empty["lines"] == []


@pytest.mark.django_db
def test_reasons_are_text_on_the_page_and_no_formula_in_a_spreadsheet() -> None:
    user = user_make()
    for number, reason in enumerate(("<script>alert(1)</script>", "=cmd|' /C calc'!A0")):
        grant_post(to=account_of(user=user), amount_micro=5, reason=reason, idempotency_key=f"hostile-{number}")
    assert "<script>alert" not in body_of(signed_in(user), "/bank/")
    assert "'=cmd|" in body_of(signed_in(user), "/bank/statement.csv")


@pytest.mark.django_db
def test_statements_do_not_grow_with_lines(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    user, _ = account_with([100] * (PAGE_LINES + 2))
    client = signed_in(user)
    # session, user, account, lines, the postings of their entries, reservations twice, balance and unread in the bar
    with django_assert_max_num_queries(9):
        assert "Older lines" in client.get("/bank/").content.decode()
    with django_assert_max_num_queries(6):
        body_of(client, "/bank/statement.json")
    assert EXPORT_LINES > PAGE_LINES


async def test_under_an_event_loop_a_download_is_the_same(own_database: str, async_client: AsyncClient) -> None:
    user, account = await database_sync_to_async(account_with)([100, 50])
    await async_client.aforce_login(user, backend="django.contrib.auth.backends.ModelBackend")
    response: Any = await async_client.get("/bank/statement.json")
    assert response.is_async
    whole = b"".join([chunk async for chunk in response.streaming_content])
    assert whole == b"".join(await database_sync_to_async(lambda: list(statement_json(account)))())
