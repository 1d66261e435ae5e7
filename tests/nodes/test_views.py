"""Pages of nodes: whose they are, the join token that is shown once, hostile names."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from nodes.models import JoinToken, Node
from nodes.services import JOIN_TOKENS_PER_OWNER_MAX
from people.models import User
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, user_make
from workers.protocol.join_tokens import join_token_decode

HOSTILE = "<script>alert(1)</script>\"'"


def signed_in(user: User, **options: bool) -> Client:
    client = Client(**options)  # type: ignore[arg-type]  # django-stubs types the defaults only
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


@pytest.mark.django_db
def test_nodes_are_shown_to_their_owner_only() -> None:
    owner = user_make()
    node, _ = node_make(owner, name="my-machine")
    assert "my-machine" in signed_in(owner).get("/nodes/").content.decode()
    for stranger in (user_make(), moderator_make()):
        text = signed_in(stranger).get("/nodes/").content.decode()
        assert "my-machine" not in text
        assert node.key_id not in text
    assert Client().get("/nodes/").status_code == 302


@pytest.mark.django_db
def test_a_node_says_whether_it_is_there_and_why_it_got_no_work() -> None:
    owner = user_make()
    now = timezone.now()
    node_make(owner, name="here", last_seen_at=now)
    node_make(owner, name="away", last_seen_at=now - timedelta(hours=3), last_no_work={"code": "none_fits", "message": "Too small for it."})
    node_make(owner, name="held", state="quarantined", last_seen_at=now)
    node_make(owner, name="gone", state="revoked")
    text = signed_in(owner).get("/nodes/").content.decode()
    assert [word for word in ("online", "silent", "quarantined") if f'state-{word}">' in text] == ["online", "silent", "quarantined"]
    assert "Too small for it." in text
    assert "It has not asked for any yet" not in text
    assert "1 revoked" in text


@pytest.mark.django_db
def test_without_nodes_the_page_says_how_to_join() -> None:
    text = signed_in(user_make()).get("/nodes/").content.decode()
    assert "No machine of yours has joined yet." in text
    assert "Tokens live for 1 h." in text


@pytest.mark.django_db
def test_the_button_mints_a_token_that_works_and_is_shown_once() -> None:
    owner = user_make()
    client = signed_in(owner)
    response = client.post("/nodes/join-token/")
    assert "no-store" in response.headers["Cache-Control"]
    found = re.search(r'data-text="nexa join ([^"]+)"', response.content.decode())
    assert found
    content = join_token_decode(html.unescape(found.group(1)))
    assert content.portal == "http://testserver"
    assert JoinToken.objects.get().owner == owner
    assert content.secret not in client.get("/nodes/").content.decode()


@pytest.mark.django_db
def test_minting_takes_a_post_a_session_and_a_csrf_token() -> None:
    owner = user_make()
    assert signed_in(owner).get("/nodes/join-token/").status_code == 405
    assert Client().post("/nodes/join-token/").status_code == 302
    assert signed_in(owner, enforce_csrf_checks=True).post("/nodes/join-token/").status_code == 403
    assert JoinToken.objects.count() == 0


@pytest.mark.django_db
def test_too_many_tokens_are_refused_on_the_page() -> None:
    owner = user_make()
    expires_at = timezone.now() + timedelta(hours=1)
    JoinToken.objects.bulk_create(
        JoinToken(owner=owner, secret_sha256=number.to_bytes(32), expires_at=expires_at) for number in range(JOIN_TOKENS_PER_OWNER_MAX)
    )
    response = signed_in(owner).post("/nodes/join-token/")
    assert response.status_code == 409
    assert f"There are {JOIN_TOKENS_PER_OWNER_MAX} unused join tokens of yours" in response.content.decode()


@pytest.mark.django_db
def test_what_a_host_claims_is_shown_as_text() -> None:
    owner = user_make()
    node, _ = node_make(owner, name=HOSTILE, last_no_work={"code": "x", "message": HOSTILE})
    profile = {**node.profile, "gpus": [{"name": HOSTILE, "memory_bytes": 10**9}]}
    Node.objects.filter(pk=node.pk).update(profile=profile)
    text = signed_in(owner).get("/nodes/").content.decode()
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)") == 4  # the name twice: once as its title


@pytest.mark.django_db
def test_statements_do_not_grow_with_nodes(django_assert_max_num_queries: DjangoAssertNumQueries) -> None:
    owner = user_make()
    for _ in range(5):
        node_make(owner)
    client = signed_in(owner)
    with django_assert_max_num_queries(3):
        client.get("/nodes/")
