"""People's addresses through Django's whole stack: who gets in, with what, and to whose objects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from people.models import ApiToken, Scope, User
from people.services import token_mint, token_revoke
from tests.factories.people import moderator_make, researcher_make, token_header, user_make

pytestmark = pytest.mark.django_db


def problem_check(response: Any, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    return document


def session_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


# --- getting in -------------------------------------------------------------------------------------------------------


def test_no_credential_is_401(client: Client) -> None:
    response = client.get("/api/v1/me")
    problem_check(response, 401, "not_authenticated")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer nexa_short", "Basic YTpi", "Bearer other_" + "a" * 43, "Bearer nexa_" + "ä" * 43, "nexa_x"],
)
def test_malformed_token_is_401(client: Client, value: str) -> None:
    document = problem_check(client.get("/api/v1/me", headers={"Authorization": value}), 401, "token_malformed")
    assert "short" not in document["detail"]


def test_unknown_token_is_401(client: Client) -> None:
    problem_check(client.get("/api/v1/me", headers=bearer("nexa_" + "a" * 43)), 401, "token_unknown")


def test_revoked_token_is_401(client: Client) -> None:
    token, secret = token_mint(owner=user_make(), name="laptop", scopes=Scope.values)
    token_revoke(token=token)
    document = problem_check(client.get("/api/v1/me", headers=bearer(secret)), 401, "token_revoked")
    assert secret not in str(document)


def test_expired_token_is_401(client: Client) -> None:
    token, secret = token_mint(owner=user_make(), name="laptop", scopes=Scope.values)
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now())
    problem_check(client.get("/api/v1/me", headers=bearer(secret)), 401, "token_expired")


def test_token_of_a_closed_account_is_403(client: Client) -> None:
    user = user_make()
    headers = token_header(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    problem_check(client.get("/api/v1/me", headers=headers), 403, "account_inactive")


def test_token_before_its_expiry_works_and_its_use_is_recorded(client: Client) -> None:
    token, secret = token_mint(owner=user_make(), name="laptop", scopes=Scope.values, expires_at=timezone.now() + timedelta(minutes=1))
    assert client.get("/api/v1/me", headers={"Authorization": f"bearer  {secret} "}).status_code == 200
    token.refresh_from_db()
    assert token.last_used_at is not None


# --- me ---------------------------------------------------------------------------------------------------------------


def test_me_tells_a_token_what_it_may_do(client: Client) -> None:
    user = researcher_make("ada")
    found = client.get("/api/v1/me", headers=token_header(user, [Scope.JOBS_READ])).json()
    assert found["username"] == "ada"
    assert found["roles"] == ["contributor", "researcher"]
    assert found["scopes"] == ["jobs:read"]
    assert found["token"]["scopes"] == ["jobs:read"]
    assert "secret" not in str(found)


def test_me_tells_a_session_that_it_may_do_all() -> None:
    found = session_of(moderator_make()).get("/api/v1/me").json()
    assert found["roles"] == ["contributor", "moderator"]
    assert found["scopes"] == sorted(Scope.values)
    assert found["token"] is None


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_session_mints_lists_and_revokes(client: Client) -> None:
    session = session_of(user_make())
    minted = session.post("/api/v1/tokens", {"name": "CI", "scopes": ["jobs:read"]}, "application/json")
    assert minted.status_code == 201
    secret = minted.json()["secret"]
    assert client.get("/api/v1/me", headers=bearer(secret)).status_code == 200

    listed = session.get("/api/v1/tokens").json()
    assert [token["name"] for token in listed] == ["CI"]
    assert "secret" not in listed[0]

    for _ in range(2):
        assert session.delete(f"/api/v1/tokens/{minted.json()['id']}").status_code == 204
    problem_check(client.get("/api/v1/me", headers=bearer(secret)), 401, "token_revoked")


def test_session_without_its_csrf_token_mints_nothing() -> None:
    user = user_make()
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    body = {"name": "CI", "scopes": ["jobs:read"]}
    document = problem_check(client.post("/api/v1/tokens", body, "application/json"), 403, "forbidden")
    assert "CSRF" in document["detail"]
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("method", ["get", "post"])
def test_token_manages_no_tokens(client: Client, method: str) -> None:
    response = getattr(client, method)("/api/v1/tokens", headers=token_header(user_make()))
    problem_check(response, 403, "session_required")


@pytest.mark.parametrize(("method", "address"), [("get", ""), ("post", ""), ("delete", "/1")])
def test_stranger_manages_no_tokens(client: Client, method: str, address: str) -> None:
    problem_check(getattr(client, method)(f"/api/v1/tokens{address}"), 401, "not_authenticated")


def test_token_of_somebody_else_is_not_found() -> None:
    token, _ = token_mint(owner=user_make(), name="theirs", scopes=Scope.values)
    problem_check(session_of(moderator_make()).delete(f"/api/v1/tokens/{token.pk}"), 404, "not_found")
    token.refresh_from_db()
    assert token.revoked_at is None


def test_token_may_revoke_itself_and_no_other(client: Client) -> None:
    owner = user_make()
    token, secret = token_mint(owner=owner, name="leaked", scopes=[Scope.JOBS_READ])
    other, _ = token_mint(owner=owner, name="other", scopes=[Scope.JOBS_READ])
    headers = bearer(secret)
    problem_check(client.delete(f"/api/v1/tokens/{other.pk}", headers=headers), 403, "session_required")
    assert client.delete(f"/api/v1/tokens/{token.pk}", headers=headers).status_code == 204
    problem_check(client.get("/api/v1/me", headers=headers), 401, "token_revoked")


@pytest.mark.parametrize("token_id", ["0", "9" * 30, "9" * 6000, "-1", "x", "1%00"])
def test_token_id_that_no_token_has_is_not_found(token_id: str) -> None:
    problem_check(session_of(user_make()).delete(f"/api/v1/tokens/{token_id}"), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"name": "a", "scopes": []}', 400, "request_invalid"),
        (b'{"name": "a", "scopes": ["root"]}', 400, "request_invalid"),
        (b'{"name": "", "scopes": ["jobs:read"]}', 400, "request_invalid"),
        (b'{"name": {}, "scopes": {"a": []}}', 400, "request_invalid"),
        (b'{"name": "a", "scopes": ["jobs:read"], "expires_at": "9999-12-31T23:59:59-23:59"}', 400, "request_invalid"),
        (b'{"name": "a", "scopes": ["jobs:read"], "expires_at": 1e300}', 400, "request_invalid"),
        (b'{"name": "a", "scopes": ["jobs:read"], "expires_at": "2001-01-01T00:00:00Z"}', 400, "token_expiry_past"),
        (b'{"name": "a\\u0000", "scopes": ["jobs:read"]}', 400, "json_malformed"),
        (b'{"name": "\\ud800", "scopes": ["jobs:read"]}', 400, "json_malformed"),
        (b'{"name": "a", "name": "b"}', 400, "json_malformed"),
        (b"\xff\xfe", 400, "json_malformed"),
        (b"[" * 100_000, 400, "json_malformed"),
        (b"1" + b"0" * 5000, 400, "json_malformed"),
        (b"NaN", 400, "json_malformed"),
        (b"null", 400, "request_invalid"),
        (b'"' + b"a" * 2**20 + b'"', 413, "json_too_large"),
    ],
)
def test_body_that_will_not_do_has_its_code(body: bytes, status: int, code: str) -> None:
    problem_check(session_of(user_make()).post("/api/v1/tokens", body, "application/json"), status, code)
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "a/b/c"])
def test_body_of_another_type_is_415(content_type: str) -> None:
    response = session_of(user_make()).post("/api/v1/tokens", b"x", content_type)
    problem_check(response, 415, "media_type_unsupported")


@pytest.mark.parametrize("address", ["/api/v1/me", "/api/v1/tokens", "/api/v1/tokens/1"])
def test_method_not_taken_is_405(address: str) -> None:
    problem_check(session_of(user_make()).put(address), 405, "method_not_allowed")
