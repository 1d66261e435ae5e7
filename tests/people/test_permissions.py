"""people/permissions.py: what a view that names scopes lets through, and what a forgotten line does."""

from __future__ import annotations

from typing import ClassVar

import pytest
from django.test import Client, override_settings
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from people.errors import ScopeMissingError
from people.models import ApiToken, Scope
from people.permissions import ScopePermission, scope_check
from tests.factories.people import token_header, user_make

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class ScopedView(APIView):
    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": Scope.JOBS_READ, "POST": Scope.JOBS_WRITE, "PUT": None}

    def get(self, request: Request) -> Response:
        return Response({})

    post = put = delete = get


urlpatterns = [path("api/scoped", ScopedView.as_view())]


@pytest.mark.parametrize(
    ("method", "scopes", "status"),
    [
        ("get", [Scope.JOBS_READ], 200),
        ("head", [Scope.JOBS_READ], 200),
        ("get", [Scope.JOBS_WRITE], 403),
        ("head", [Scope.JOBS_WRITE], 403),
        ("post", [Scope.JOBS_WRITE], 200),
        ("post", [Scope.JOBS_READ], 403),
        ("put", [Scope.LEDGER_READ], 200),
        ("delete", Scope.values, 403),
        ("patch", Scope.values, 405),
        ("options", [Scope.LEDGER_READ], 200),
    ],
)
def test_method_with_scopes(client: Client, method: str, scopes: list[Scope], status: int) -> None:
    response = getattr(client, method)("/api/scoped", headers=token_header(user_make(), scopes))
    assert response.status_code == status


@pytest.mark.parametrize(("method", "status"), [("get", 200), ("post", 200), ("put", 200), ("delete", 403)])
def test_session_has_every_scope_but_no_unnamed_method(client: Client, method: str, status: int) -> None:
    client.force_login(user_make())
    assert getattr(client, method)("/api/scoped").status_code == status


def test_nobody_is_401(client: Client) -> None:
    assert client.get("/api/scoped").status_code == 401


def test_missing_scope_names_what_is_missing(client: Client) -> None:
    document = client.get("/api/scoped", headers=token_header(user_make(), [Scope.JOBS_WRITE])).json()
    assert document["code"] == "scope_missing"
    assert document["required_scope"] == "jobs:read"


def test_view_without_a_map_lets_nobody_in(client: Client) -> None:
    class ForgetfulView(ScopedView):
        required_scopes: ClassVar[dict[str, Scope | None]] = {}

    patterns = type("urls", (), {"urlpatterns": [path("api/scoped", ForgetfulView.as_view())]})
    with override_settings(ROOT_URLCONF=patterns):
        assert client.get("/api/scoped", headers=token_header(user_make())).status_code == 403


def test_scope_check_outside_of_a_view() -> None:
    scope_check(token=None, scope=Scope.JOBS_READ)
    scope_check(token=ApiToken(scopes=["jobs:read"]), scope=Scope.JOBS_READ)
    with pytest.raises(ScopeMissingError):
        scope_check(token=ApiToken(scopes=["jobs:read"]), scope=Scope.JOBS_WRITE)
