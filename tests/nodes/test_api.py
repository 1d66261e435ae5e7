"""Nodes' addresses through Django's whole stack: join tokens, own nodes, the coordinator; and moderators' pages."""

from __future__ import annotations

import uuid
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from ledger.coordinator_key import coordinator_public_key
from nodes.models import JoinToken
from nodes.moderation import node_quarantine
from nodes.services import node_revoke
from people.models import Scope
from tests.factories.nodes import ORIGIN, node_make
from tests.factories.people import moderator_make, token_header, user_make
from workers.protocol.join_tokens import join_token_decode

pytestmark = pytest.mark.django_db
ACTIONS = ("revoke", "pause", "resume")


def problem_check(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    assert response.headers["Content-Type"] == "application/problem+json"


# --- who may ----------------------------------------------------------------------------------------------------------

ADDRESSES = [
    ("get", "/api/v1/nodes", Scope.NODES_READ),
    ("get", "/api/v1/nodes/{node}", Scope.NODES_READ),
    *[("post", "/api/v1/nodes/{node}/" + action, Scope.NODES_WRITE) for action in ACTIONS],
    ("post", "/api/v1/join-tokens", Scope.NODES_WRITE),
]


@pytest.mark.parametrize(("method", "address", "scope"), ADDRESSES)
def test_address_wants_exactly_its_scope(client: Client, method: str, address: str, scope: Scope) -> None:
    owner = user_make()
    node, _ = node_make(owner)
    target = (method.upper(), address.format(node=node.pk))
    problem_check(client.generic(*target), 401, "not_authenticated")
    others = [other for other in Scope.values if other != scope]
    problem_check(client.generic(*target, headers=token_header(owner, others)), 403, "scope_missing")
    assert client.generic(*target, headers=token_header(owner, [scope])).status_code in (200, 201)


@pytest.mark.parametrize(("method", "address", "scope"), [entry for entry in ADDRESSES if "{node}" in entry[1]])
def test_node_of_somebody_else_is_not_found(client: Client, method: str, address: str, scope: Scope) -> None:
    node, _ = node_make(user_make())
    for stranger in (user_make(), moderator_make()):
        response = getattr(client, method)(address.format(node=node.pk), headers=token_header(stranger))
        problem_check(response, 404, "not_found")
    node.refresh_from_db()
    assert node.state == "active"


def test_address_without_a_node_says_the_same_as_somebody_elses(client: Client) -> None:
    node, _ = node_make(user_make())
    headers = token_header(user_make())
    found = [client.get(f"/api/v1/nodes/{found}", headers=headers).json() for found in (node.pk, uuid.uuid4())]
    assert found[0] == found[1]


@pytest.mark.parametrize("node_id", ["1", "%00", "x" * 36, "00000000-0000-0000-0000-00000000000G"])
def test_malformed_node_id_is_not_found(client: Client, node_id: str) -> None:
    problem_check(client.get(f"/api/v1/nodes/{node_id}", headers=token_header(user_make())), 404, "not_found")


# --- own nodes --------------------------------------------------------------------------------------------------------


def test_list_shows_own_nodes_page_by_page(client: Client) -> None:
    owner = user_make()
    nodes = [node_make(owner)[0] for _ in range(5)]
    node_make(user_make())
    headers = token_header(owner)
    seen: list[str] = []
    after = ""
    for expected in (2, 2, 1):
        page = client.get(f"/api/v1/nodes?limit=2{after}", headers=headers).json()
        assert len(page["nodes"]) == expected
        seen += [node["id"] for node in page["nodes"]]
        after = f"&after={page['next']}"
    assert page["next"] is None
    assert seen == [str(node.pk) for node in nodes]


def test_list_after_a_node_of_somebody_else_is_empty(client: Client) -> None:
    owner = user_make()
    node_make(owner)
    other, _ = node_make(user_make())
    page = client.get(f"/api/v1/nodes?after={other.pk}", headers=token_header(owner)).json()
    assert page == {"nodes": [], "next": None}


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=" + "9" * 5000, "limit=x", "after=1", "after=%00"])
def test_list_refuses_a_query_that_will_not_do(client: Client, query: str) -> None:
    response = client.get(f"/api/v1/nodes?{query}", headers=token_header(user_make()))
    problem_check(response, 400, "request_invalid")
    assert response.json()["errors"][0]["path"] == "/" + query.split("=", maxsplit=1)[0]


def test_list_costs_the_same_for_many_nodes(client: Client, django_assert_num_queries: Any) -> None:
    owner = user_make()
    headers = token_header(owner)
    client.get("/api/v1/nodes", headers=headers)  # records the token's use
    for _ in range(3):
        node_make(owner)
    with django_assert_num_queries(2):
        client.get("/api/v1/nodes", headers=headers)


def test_node_tells_its_tier_and_why_it_is_no_higher(client: Client) -> None:
    owner = user_make()
    node, key = node_make(owner)
    found = client.get(f"/api/v1/nodes/{node.pk}", headers=token_header(owner)).json()
    assert (found["tier"], found["queues"], found["state"]) == ("cpu", ["cpu"], "active")
    assert found["key_id"] == key.public.key_id
    assert "GPU" in found["tier_reasons"][0]
    assert found["profile"]["cores"] == 8


@pytest.mark.parametrize(("action", "state"), [("revoke", "revoked"), ("pause", "paused"), ("resume", "active")])
def test_owner_acts_on_a_node_and_again(client: Client, action: str, state: str) -> None:
    owner = user_make()
    node, _ = node_make(owner)
    for _ in range(2):
        response = client.post(f"/api/v1/nodes/{node.pk}/{action}", headers=token_header(owner))
        assert (response.status_code, response.json()["state"]) == (200, state)
    node.refresh_from_db()
    assert node.state == state


def test_revoked_node_neither_pauses_nor_resumes(client: Client) -> None:
    owner = user_make()
    node = node_revoke(node=node_make(owner)[0])
    for action in ("pause", "resume"):
        problem_check(client.post(f"/api/v1/nodes/{node.pk}/{action}", headers=token_header(owner)), 403, "node_revoked")


def test_owner_does_not_end_a_quarantine_but_may_revoke(client: Client) -> None:
    owner = user_make()
    node = node_quarantine(node=node_make(owner)[0], by=moderator_make(), reason="Odd results.")
    headers = token_header(owner)
    for action in ("pause", "resume"):
        problem_check(client.post(f"/api/v1/nodes/{node.pk}/{action}", headers=headers), 409, "node_quarantined")
    assert client.post(f"/api/v1/nodes/{node.pk}/revoke", headers=headers).json()["state"] == "revoked"


# --- join tokens and the coordinator ----------------------------------------------------------------------------------


def test_join_token_comes_with_the_command_to_run(client: Client) -> None:
    owner = user_make()
    response = client.post("/api/v1/join-tokens", {"lifetime_seconds": 60}, "application/json", headers=token_header(owner))
    minted = response.json()
    assert response.status_code == 201
    assert minted["command"] == f"nexa join {minted['token']}"
    assert join_token_decode(minted["token"]).portal == ORIGIN
    assert JoinToken.objects.get().owner == owner


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"lifetime_seconds": 59}', 400, "request_invalid"),
        (b'{"lifetime_seconds": 1e308}', 400, "request_invalid"),
        (b'{"lifetime_seconds": 9007199254740991}', 400, "request_invalid"),
        (b'{"lifetime_seconds": null}', 400, "request_invalid"),
        (b"[]", 400, "request_invalid"),
        (b"{", 400, "json_malformed"),
    ],
)
def test_join_token_of_a_body_that_will_not_do(client: Client, body: bytes, status: int, code: str) -> None:
    headers = token_header(user_make())
    problem_check(client.post("/api/v1/join-tokens", body, "application/json", headers=headers), status, code)
    assert not JoinToken.objects.exists()


def test_coordinator_is_public_and_says_its_key(client: Client) -> None:
    key = coordinator_public_key()
    assert client.get("/api/v1/coordinator").json() == {
        "protocol_versions": [1],
        "origin": ORIGIN,
        "public_key": key.to_base64(),
        "key_id": key.key_id,
        "predecessors": [],
    }


@pytest.mark.parametrize(
    ("method", "address"),
    [("delete", "/api/v1/nodes"), ("get", "/api/v1/join-tokens"), ("get", "/register"), ("put", "/api/v1/coordinator")],
)
def test_method_not_taken(client: Client, method: str, address: str) -> None:
    client.force_login(user_make())
    problem_check(getattr(client, method)(address), 405, "method_not_allowed")


def test_command_prints_a_join_token() -> None:
    owner, out = user_make("ada"), StringIO()
    call_command("join_token_mint", "ada", stdout=out)
    join_token_decode(out.getvalue())
    assert JoinToken.objects.get().owner == owner
    with pytest.raises(CommandError, match="no user"):
        call_command("join_token_mint", "nobody")
    with pytest.raises(CommandError, match="Expected 60"):
        call_command("join_token_mint", "ada", "--lifetime-seconds", "1")


# --- moderators' pages ------------------------------------------------------------------------------------------------


def test_moderators_pages_show_no_secret(client: Client) -> None:
    client.force_login(moderator_make())
    owner = user_make()
    token_header(owner)
    node, _ = node_make(owner)
    for model in ("nodes_node", "nodes_jointoken", "people_user", "people_apitoken"):
        assert client.get(reverse(f"admin:{model}_changelist")).status_code == 200
    page = client.get(reverse("admin:nodes_node_change", args=[node.pk]))
    assert page.status_code == 200
    assert "public_key" not in page.content.decode()
