"""One's own account over HTTP: what is shown, and to whom it is not."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client

from ledger.checkpoints import checkpoint_publish
from ledger.services import account_of, reservation_of
from people.models import Scope
from tests.factories.jobs import credits_grant
from tests.factories.ledger import entry_post
from tests.factories.people import token_header, user_make

pytestmark = pytest.mark.django_db

PATHS = ["/api/v1/account", "/api/v1/account/statement"]


def test_account_has_its_opaque_id_and_balance(client: Client) -> None:
    user = user_make()
    credits_grant(user, 1_500_000)
    body = client.get("/api/v1/account", headers=token_header(user, [Scope.LEDGER_READ])).json()
    assert (body["account_id"], body["balance_micro"]) == (str(account_of(user=user).pk), "1500000")


def test_account_that_was_never_used_is_empty(client: Client) -> None:
    header = token_header(user_make(), [Scope.LEDGER_READ])
    assert client.get("/api/v1/account", headers=header).json()["balance_micro"] == "0"
    assert client.get("/api/v1/account/statement", headers=header).json() == {"lines": [], "next_before": None}


def test_statement_pages_through_ones_own_postings_only(client: Client) -> None:
    user, stranger = user_make(), user_make()
    credits_grant(user, 100)
    checkpoint_publish()
    credits_grant(stranger, 7)
    for _ in range(2):
        entry_post(reservation_of(account=account_of(user=user), job_id=uuid.uuid4(), amount_micro=10))
    header = token_header(user, [Scope.LEDGER_READ])
    first: dict[str, Any] = client.get("/api/v1/account/statement?limit=2", headers=header).json()
    rest: dict[str, Any] = client.get(f"/api/v1/account/statement?limit=2&before={first['next_before']}", headers=header).json()
    found = [(one["kind"], one["amount_micro"], one["index"]) for one in first["lines"] + rest["lines"]]
    assert found == [("reservation", "-10", None), ("reservation", "-10", None), ("grant", "100", 0)]
    assert rest["next_before"] is None


def test_session_may_read_its_account(client: Client) -> None:
    client.force_login(user_make())
    assert [client.get(path).status_code for path in PATHS] == [200, 200]


@pytest.mark.parametrize("path", PATHS)
def test_anonymous_and_tokens_without_the_scope_are_refused(client: Client, path: str) -> None:
    assert client.get(path).status_code == 401
    others = [scope for scope in Scope if scope != Scope.LEDGER_READ]
    response = client.get(path, headers=token_header(user_make(), others))
    assert (response.status_code, response.json()["code"]) == (403, "scope_missing")


@pytest.mark.parametrize("query", ["before=0", "before=x", "before=-1", "before=99999999999999999999", "limit=0", "limit=1001", "limit=x"])
def test_query_that_is_no_number_in_range_is_named(client: Client, query: str) -> None:
    response = client.get(f"/api/v1/account/statement?{query}", headers=token_header(user_make()))
    assert (response.status_code, response.json()["code"]) == (400, "request_invalid")
