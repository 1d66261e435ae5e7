"""nodes/authentication.py through Django's whole stack: a plain and an async view that ask who signed."""

from __future__ import annotations

from functools import partial
from io import BytesIO
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, JsonResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from nodes.authentication import node_of_request, request_parts
from nodes.models import Node
from nodes.moderation import node_quarantine
from nodes.services import node_pause, node_revoke
from people.models import User
from tests.factories.nodes import node_make, signed_headers
from tests.factories.people import moderator_make, user_make
from workers.protocol.digests import content_digest_header
from workers.protocol.keys import PrivateKey

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]
ADDRESS = "/api/who"
BODY = b'{"slots": 1}'


@csrf_exempt
def who(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"node": str(node_of_request(request, body=request.body).pk)})


@csrf_exempt
async def who_async(request: HttpRequest) -> JsonResponse:
    node = await sync_to_async(node_of_request)(request, body=request.body)
    return JsonResponse({"node": str(node.pk)})


urlpatterns = [
    path("api/who", who),
    path("api/who-async", who_async),
    path("api/who/<path:rest>", lambda request, rest: who(request)),
]


@pytest.fixture
def signer() -> tuple[Node, PrivateKey]:
    return node_make(user_make())


def post(client: Client, headers: dict[str, str], *, address: str = ADDRESS, body: bytes = BODY) -> Any:
    return client.post(address, body, "application/json", headers=headers)


def problem_check(response: Any, code: str, status: int = 401) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    assert response.headers["Content-Type"] == "application/problem+json"


def test_signed_request_names_its_node(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    node, key = signer
    assert post(client, signed_headers(key, "POST", ADDRESS, BODY)).json() == {"node": str(node.pk)}
    assert client.get(ADDRESS + "?a=%20b", headers=signed_headers(key, "GET", ADDRESS + "?a=%20b")).status_code == 200


async def test_async_view_under_asgi_answers_as_a_plain_one() -> None:
    response = await AsyncClient().post("/api/who-async", BODY, "application/json")
    problem_check(response, "signature_missing")


def test_async_view_knows_its_node(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    address = "/api/who-async"
    response = post(client, signed_headers(signer[1], "POST", address, BODY), address=address)
    assert response.json() == {"node": str(signer[0].pk)}


def test_unsigned_request_is_missing_its_signature(client: Client) -> None:
    problem_check(post(client, {}), "signature_missing")


@pytest.mark.parametrize("field", ["Signature", "Signature-Input"])
@pytest.mark.parametrize("value", ["", "x", "nexapod=:AAAA:", "nexapod=()", "\u00ff", '"' * 3000])
def test_malformed_signature(client: Client, signer: tuple[Node, PrivateKey], field: str, value: str) -> None:
    headers = {**signed_headers(signer[1], "POST", ADDRESS, BODY), field: value}
    problem_check(post(client, headers), "signature_malformed")


def test_signature_that_leaves_the_body_out(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    headers = signed_headers(signer[1], "POST", ADDRESS)
    problem_check(post(client, headers), "signature_incomplete")


@pytest.mark.parametrize("age_seconds", [61, 3600, -70])
def test_stale_signature(client: Client, signer: tuple[Node, PrivateKey], age_seconds: int) -> None:
    headers = signed_headers(signer[1], "POST", ADDRESS, BODY, age_seconds=age_seconds)
    problem_check(post(client, headers), "signature_stale")


@pytest.mark.parametrize(
    ("method", "address"),
    [("PUT", ADDRESS), ("POST", ADDRESS + "/other"), ("POST", ADDRESS + "?node=2"), ("POST", "/api/v1/exchange")],
)
def test_signature_made_for_another_target(client: Client, signer: tuple[Node, PrivateKey], method: str, address: str) -> None:
    problem_check(post(client, signed_headers(signer[1], method, address, BODY)), "signature_retargeted")


@override_settings(ALLOWED_HOSTS=["testserver", "other.example"])
def test_signature_made_for_another_portal(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    headers = {**signed_headers(signer[1], "POST", ADDRESS, BODY), "Host": "other.example"}
    problem_check(post(client, headers), "signature_retargeted")


def test_other_body_under_its_old_digest(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    headers = signed_headers(signer[1], "POST", ADDRESS, BODY)
    problem_check(post(client, headers, body=BODY + b" "), "content_digest_mismatch")


def test_other_body_under_its_own_digest(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    other = BODY + b" "
    headers = {**signed_headers(signer[1], "POST", ADDRESS, BODY), "Content-Digest": content_digest_header(other)}
    problem_check(post(client, headers, body=other), "signature_retargeted")


def test_key_that_no_node_has(client: Client) -> None:
    problem_check(post(client, signed_headers(PrivateKey.generate(), "POST", ADDRESS, BODY)), "node_unknown")


def test_signature_by_another_key_in_a_nodes_name(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    forged = PrivateKey.generate()
    headers = signed_headers(forged, "POST", ADDRESS, BODY)
    headers["Signature-Input"] = headers["Signature-Input"].replace(forged.public.key_id, signer[0].key_id)
    problem_check(post(client, headers), "signature_retargeted")


def test_revoked_node(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    node_revoke(node=signer[0])
    problem_check(post(client, signed_headers(signer[1], "POST", ADDRESS, BODY)), "node_revoked", 403)


def test_revocation_is_told_to_the_key_holder_only(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    node_revoke(node=signer[0])
    stale = signed_headers(signer[1], "POST", ADDRESS, BODY, age_seconds=100)
    problem_check(post(client, stale), "signature_stale")


def test_node_of_a_closed_account(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    User.objects.filter(pk=signer[0].owner_id).update(is_active=False)
    problem_check(post(client, signed_headers(signer[1], "POST", ADDRESS, BODY)), "account_inactive", 403)


def test_paused_and_quarantined_nodes_are_known(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    moderator = moderator_make()
    for act in (node_pause, partial(node_quarantine, by=moderator, reason="Odd results.")):
        act(node=signer[0])
        assert post(client, signed_headers(signer[1], "POST", ADDRESS, BODY)).status_code == 200


def test_same_signature_again_is_a_replay(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    headers = signed_headers(signer[1], "POST", ADDRESS, BODY)
    assert post(client, headers).status_code == 200
    problem_check(post(client, headers), "signature_replayed")


def test_refused_request_uses_up_no_nonce(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    headers = signed_headers(signer[1], "POST", ADDRESS, BODY)
    problem_check(post(client, headers, address=ADDRESS + "?x"), "signature_retargeted")
    assert post(client, headers).status_code == 200


def test_nonce_is_remembered_as_long_as_its_signature_could_be_fresh(signer: tuple[Node, PrivateKey]) -> None:
    headers = signed_headers(signer[1], "POST", ADDRESS, BODY)
    post(Client(), headers)
    nonce = headers["Signature-Input"].split('nonce="')[1].split('"')[0]
    assert not cache.add(f"nonce:{signer[0].key_id}:{nonce}", 1)


REDIS_AWAY = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "unix:///nonexistent/redis.sock"}}


@override_settings(CACHES=REDIS_AWAY)
def test_without_redis_hosts_are_still_let_in(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    assert post(client, signed_headers(signer[1], "POST", ADDRESS, BODY)).status_code == 200


def test_decoded_path_is_encoded_again(client: Client, signer: tuple[Node, PrivateKey]) -> None:
    address = ADDRESS + "/sha256:00%20%C3%A4"
    assert client.get(address, headers=signed_headers(signer[1], "GET", address)).status_code == 200


def test_asgi_path_is_the_one_on_the_wire() -> None:
    """`%3A` and `:` are one path to Django and two to a signature."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/who/a:b",
        "raw_path": b"/api/who/a%3Ab",
        "query_string": b"q=1",
        "headers": [(b"host", b"testserver")],
        "server": ("testserver", 80),
    }
    parts = request_parts(ASGIRequest(scope, BytesIO()))
    assert (parts["path"], parts["query"], parts["scheme"]) == ("/api/who/a%3Ab", "q=1", "http")


def test_request_parts_of_a_plain_request() -> None:
    parts = request_parts(RequestFactory().post("/a b?x=1", BODY, "application/json", secure=True))
    assert (parts["method"], parts["path"], parts["query"]) == ("POST", "/a%20b", "x=1")
    assert (parts["authority"], parts["scheme"]) == ("testserver", "https")
