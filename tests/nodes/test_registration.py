"""Registration: nodes/services.py, and `POST /register` through Django's whole stack."""

from __future__ import annotations

import json
import re
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection
from django.test import Client
from django.utils import timezone

from ledger.coordinator_key import coordinator_public_key
from nodes import services
from nodes.errors import (
    EngineLimitsIgnoredError,
    HostBelowFloorError,
    JoinLifetimeInvalidError,
    JoinTokenExpiredError,
    JoinTokensTooManyError,
    JoinTokenUnknownError,
    JoinTokenUsedError,
    KeyRegisteredError,
    NodeNameTakenError,
    NodeOwnerInactiveError,
    NodeRevokedError,
)
from nodes.models import JoinToken, Node
from nodes.services import join_token_create, join_token_mint, node_register, node_revoke
from people.errors import NameInvalidError
from people.models import User
from tests.factories.nodes import ORIGIN, node_make, profile_make, registration_make, signed_headers, signed_post
from tests.factories.people import user_make
from workers.protocol.errors import KeyMalformedError
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.joining import RegistrationRequest
from workers.protocol.messages.machine import EngineProfile
from workers.protocol.problems import ProblemError

PODMAN = EngineProfile(name="podman", version="4.3", cgroup_version="1", rootless=True, limits_ignored=("memory", "pids"))


def secret_of(owner: User) -> str:
    return join_token_decode(join_token_mint(owner=owner, lifetime_seconds=3600)).secret


def message_make(secret: str, key: PrivateKey | None = None, **fields: Any) -> RegistrationRequest:
    return RegistrationRequest.model_validate(registration_make(secret=secret, key=key or PrivateKey.generate(), **fields))


def problem_check(response: Any, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.json()["code"]) == (status, code), response.content
    document: dict[str, Any] = response.json()
    return document


@pytest.mark.django_db
class TestJoinTokens:
    def test_token_names_the_portal_and_the_coordinator(self) -> None:
        token, text = join_token_create(owner=user_make(), lifetime_seconds=3600)
        content = join_token_decode(text)
        assert content.portal == ORIGIN
        assert content.coordinator == coordinator_public_key().key_id
        assert content.secret.encode() not in bytes(token.secret_sha256)
        assert abs(token.expires_at - timezone.now() - timedelta(hours=1)) < timedelta(minutes=1)

    @pytest.mark.parametrize("seconds", [59, 7 * 86400 + 1, -1, float("nan"), float("inf")])
    def test_lifetime_out_of_bounds_is_refused(self, seconds: float) -> None:
        with pytest.raises(JoinLifetimeInvalidError):
            join_token_mint(owner=user_make(), lifetime_seconds=seconds)

    def test_unused_tokens_are_limited(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(services, "JOIN_TOKENS_PER_OWNER_MAX", 1)
        owner = user_make()
        secret = secret_of(owner)
        with pytest.raises(JoinTokensTooManyError):
            secret_of(owner)
        node_register(message=message_make(secret))
        secret_of(owner)


@pytest.mark.django_db
class TestService:
    def test_new_node_has_the_tier_of_its_profile(self) -> None:
        owner = user_make()
        key = PrivateKey.generate()
        profile = profile_make(gpu_gb=24).model_dump(mode="json")
        node, created = node_register(message=message_make(secret_of(owner), key, profile=profile))
        node.refresh_from_db()
        assert created
        assert (node.owner, node.tier, node.state) == (owner, "gpu-tier2", "active")
        assert node.queues == ["gpu-tier2", "gpu-tier1", "cpu"]
        assert bytes(node.public_key) == key.public.raw
        assert node.key_id == key.public.key_id
        assert node.profile == profile

    def test_unknown_token(self) -> None:
        with pytest.raises(JoinTokenUnknownError):
            node_register(message=message_make("x" * 43))

    def test_expired_token(self) -> None:
        secret = secret_of(user_make())
        with pytest.raises(JoinTokenExpiredError):
            node_register(message=message_make(secret), now=timezone.now() + timedelta(hours=2))

    def test_token_of_a_closed_account(self) -> None:
        owner = user_make()
        secret = secret_of(owner)
        User.objects.filter(pk=owner.pk).update(is_active=False)
        with pytest.raises(NodeOwnerInactiveError):
            node_register(message=message_make(secret))

    def test_second_host_hears_that_the_token_was_used(self) -> None:
        secret = secret_of(user_make())
        node_register(message=message_make(secret))
        with pytest.raises(JoinTokenUsedError):
            node_register(message=message_make(secret))
        assert Node.objects.count() == 1

    def test_same_host_again_is_the_same_node_also_after_expiry(self) -> None:
        secret, key = secret_of(user_make()), PrivateKey.generate()
        message = message_make(secret, key)
        node, _ = node_register(message=message)
        again, created = node_register(message=message, now=timezone.now() + timedelta(days=1))
        assert (again.pk, created, Node.objects.count()) == (node.pk, False, 1)

    def test_same_host_again_may_bring_a_new_profile(self) -> None:
        secret, key = secret_of(user_make()), PrivateKey.generate()
        node, _ = node_register(message=message_make(secret, key))
        profile = profile_make(gpu_gb=8, benchmark_gflops=31.5).model_dump(mode="json")
        node_register(message=message_make(secret, key, profile=profile))
        node.refresh_from_db()
        assert (node.tier, node.queues, node.benchmark_gflops) == ("gpu-tier1", ["gpu-tier1", "cpu"], 31.5)

    def test_revoked_node_does_not_come_back_with_its_token(self) -> None:
        secret, key = secret_of(user_make()), PrivateKey.generate()
        node, _ = node_register(message=message_make(secret, key))
        node_revoke(node=node)
        with pytest.raises(NodeRevokedError):
            node_register(message=message_make(secret, key))

    def test_token_whose_node_is_gone_stays_used(self) -> None:
        secret, key = secret_of(user_make()), PrivateKey.generate()
        node, _ = node_register(message=message_make(secret, key))
        node.delete()
        with pytest.raises(JoinTokenUsedError):
            node_register(message=message_make(secret, key))

    @pytest.mark.parametrize("another_owner", [True, False])
    def test_registered_key_needs_no_second_token(self, another_owner: bool) -> None:
        owner = user_make()
        _, key = node_make(owner)
        secret = secret_of(user_make() if another_owner else owner)
        with pytest.raises(KeyRegisteredError):
            node_register(message=message_make(secret, key))
        node_register(message=message_make(secret))  # the token is still good

    def test_name_is_unique_among_an_owners_living_nodes(self) -> None:
        owner = user_make()
        node, _ = node_make(owner, name="lab")
        node_make(user_make(), name="lab")
        secret = secret_of(owner)
        with pytest.raises(NodeNameTakenError):
            node_register(message=message_make(secret, name="lab"))
        node_revoke(node=node)
        assert node_register(message=message_make(secret, name="lab"))[1]

    @pytest.mark.parametrize("mark", ["\u202e", "\u200b", "\x7f", "\u2066"], ids=["right to left", "zero width", "delete", "isolate"])
    def test_name_with_characters_that_do_not_show_is_refused(self, mark: str) -> None:
        """On a page it would stand as another's, or turn the words around it."""
        owner = user_make()
        with pytest.raises(NameInvalidError):
            join_token_create(owner=owner, lifetime_seconds=60, name=f"lab{mark}1")
        secret = secret_of(owner)
        with pytest.raises(NameInvalidError):
            node_register(message=message_make(secret, name=f"lab{mark}1"))
        hinted = profile_make(hostname_hint=f"lab{mark}1").model_dump(mode="json")
        node, is_new = node_register(message=message_make(secret, name=None, profile=hinted))
        assert (node.name, is_new) == ("lab1", True)

    def test_name_is_kept_in_one_form_and_one_of_spaces_is_none(self) -> None:
        owner = user_make()
        assert node_register(message=message_make(secret_of(owner), name=" the \uff4cab "))[0].name == "the lab"
        token = join_token_decode(join_token_create(owner=owner, lifetime_seconds=60, name="attic")[1])
        assert node_register(message=message_make(token.secret, name="   "))[0].name == "attic"

    def test_name_null_is_the_one_chosen_with_the_token_and_else_the_machines(self) -> None:
        owner = user_make()
        chosen = join_token_decode(join_token_create(owner=owner, lifetime_seconds=60, name="attic")[1]).secret
        assert node_register(message=message_make(chosen, name=None))[0].name == "attic"
        for hint, name in (("cellar.example.org", r"cellar"), ("", r"node-[0-9a-f]{8}")):
            profile = profile_make(hostname_hint=hint).model_dump(mode="json")
            assert re.fullmatch(name, node_register(message=message_make(secret_of(owner), name=None, profile=profile))[0].name)

    def test_constraint_that_is_not_about_key_or_name_is_a_bug_and_raised(self) -> None:
        User.objects.filter(pk=(owner := user_make()).pk).delete()
        with pytest.raises(IntegrityError):  # noqa: PT012  the check of a deferred key comes with the second statement
            services._node_create(owner=owner, name="x", key=PrivateKey.generate().public, profile=profile_make())
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def test_engine_that_ignores_limits_is_refused_and_the_token_stays_good(self) -> None:
        secret, key = secret_of(user_make()), PrivateKey.generate()
        ignoring = profile_make(engine=PODMAN).model_dump(mode="json")
        with pytest.raises(EngineLimitsIgnoredError) as caught:
            node_register(message=message_make(secret, key, profile=ignoring))
        assert caught.value.extra == {"limits": ["memory", "pids"]}
        assert not Node.objects.exists()
        assert node_register(message=message_make(secret, key))[1]

    def test_machine_below_every_floor_is_refused_with_reasons(self) -> None:
        profile = profile_make(memory_bytes=2**28).model_dump(mode="json")
        with pytest.raises(HostBelowFloorError) as caught:
            node_register(message=message_make(secret_of(user_make()), profile=profile))
        assert "memory" in caught.value.extra["reasons"][0]

    @pytest.mark.parametrize("public_key", ["", "AAAA", "A" * 43 + "=", "!" * 44])
    def test_malformed_key_is_refused(self, public_key: str) -> None:
        with pytest.raises(KeyMalformedError):
            node_register(message=message_make(secret_of(user_make()), public_key=public_key))


def _race(messages: list[RegistrationRequest]) -> list[tuple[uuid.UUID, bool] | str]:
    """What each of `messages` came to, registered all at once on connections of their own."""
    barrier = threading.Barrier(len(messages))
    found: list[tuple[uuid.UUID, bool] | str] = []

    def register(message: RegistrationRequest) -> None:
        barrier.wait(10)
        try:
            node, created = node_register(message=message)
            found.append((node.pk, created))
        except ProblemError as error:
            found.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=register, args=(message,)) for message in messages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == len(messages)
    return found


class TestRaces:
    def test_eight_hosts_with_one_token_make_one_node(self, own_database: str) -> None:
        secret = secret_of(user_make())
        found = _race([message_make(secret) for _ in range(8)])
        assert sorted(map(str, found)).count("join_token_used") == 7
        assert Node.objects.count() == JoinToken.objects.exclude(used_at=None).count() == 1

    def test_one_host_asking_eight_times_at_once_makes_one_node(self, own_database: str) -> None:
        message = message_make(secret_of(user_make()))
        found = _race([message] * 8)
        assert len({answer[0] for answer in found}) == 1
        assert sorted(answer[1] for answer in found) == [False] * 7 + [True]

    def test_one_key_with_eight_tokens_makes_one_node(self, own_database: str) -> None:
        owner, key = user_make(), PrivateKey.generate()
        found = _race([message_make(secret_of(owner), key) for _ in range(8)])
        assert sorted(map(str, found)).count("key_registered") == 7
        assert JoinToken.objects.exclude(used_at=None).count() == 1

    def test_one_name_with_eight_keys_makes_one_node(self, own_database: str) -> None:
        owner = user_make()
        found = _race([message_make(secret_of(owner), name="lab") for _ in range(8)])
        assert sorted(map(str, found)).count("node_name_taken") == 7


@pytest.mark.django_db
class TestHttp:
    @pytest.mark.parametrize("address", ["/register", "/api/v1/nodes"])
    def test_host_registers_with_201_and_again_with_200(self, client: Client, address: str) -> None:
        owner = user_make("ada")
        key = PrivateKey.generate()
        message = registration_make(secret=secret_of(owner), key=key, name="lab")
        first = signed_post(client, address, message, key)
        assert first.status_code == 201, first.content
        answer = first.json()
        node = Node.objects.get()
        assert answer == {
            "protocol_version": 1,
            "node_id": str(node.pk),
            "key_id": key.public.key_id,
            "name": "lab",
            "owner": "ada",
            "tier": "cpu",
            "queues": ["cpu"],
            "coordinator_key": coordinator_public_key().to_base64(),
            "origin": ORIGIN,
        }
        again = signed_post(client, address, message, key)
        assert (again.status_code, again.json()) == (200, answer)

    def test_each_refusal_has_its_status(self, client: Client) -> None:
        owner, key = user_make(), PrivateKey.generate()
        unknown = registration_make(secret="x" * 43, key=key)
        problem_check(signed_post(client, "/register", unknown, key), 403, "join_token_unknown")
        weak = registration_make(secret=secret_of(owner), key=key, profile=profile_make(engine=PODMAN).model_dump(mode="json"))
        document = problem_check(signed_post(client, "/register", weak, key), 422, "engine_limits_ignored")
        assert document["limits"] == ["memory", "pids"]
        good = registration_make(secret=secret_of(owner), key=key)
        assert signed_post(client, "/register", good, key).status_code == 201
        other = PrivateKey.generate()
        used = {**good, "public_key": other.public.to_base64()}
        problem_check(signed_post(client, "/register", used, other), 409, "join_token_used")

    def test_other_protocol_version(self, client: Client) -> None:
        key = PrivateKey.generate()
        message = registration_make(secret="x" * 43, key=key, protocol_version=2, field_of_the_future=1)
        document = problem_check(signed_post(client, "/register", message, key), 400, "protocol_unsupported")
        assert document["supported"] == [1]

    def test_faults_of_the_message_are_listed(self, client: Client) -> None:
        key = PrivateKey.generate()
        message = registration_make(secret="x" * 43, key=key, name="a\tb", more=1)
        message["profile"]["cores"] = 0
        message["profile"]["memory_bytes"] = "9" * 400  # pydantic reads digits as a number; pages would divide by a unit
        document = problem_check(signed_post(client, "/register", message, key), 400, "message_invalid")
        assert {fault["path"] for fault in document["errors"]} == {"/name", "/profile/cores", "/profile/memory_bytes", "/more"}

    def test_signature_of_another_key_than_the_one_registered(self, client: Client) -> None:
        message = registration_make(secret="x" * 43, key=PrivateKey.generate())
        problem_check(signed_post(client, "/register", message, PrivateKey.generate()), 401, "key_wrong")

    def test_malformed_key(self, client: Client) -> None:
        key = PrivateKey.generate()
        message = registration_make(secret="x" * 43, key=key, public_key="A" * 43 + "=")
        problem_check(signed_post(client, "/register", message, key), 400, "key_malformed")

    @pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"[" * 100_000])
    def test_unsigned_request_hears_of_the_signature_first(self, client: Client, body: bytes) -> None:
        response = client.post("/register", body, "application/json")
        problem_check(response, 401, "signature_missing")

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            (b"{", 400, "json_malformed"),
            (b"\xff", 400, "json_malformed"),
            (b'"\\u0000"', 400, "json_malformed"),
            (b"[" * 100_000, 400, "json_malformed"),
            (b"null", 400, "message_invalid"),
            (b" " * (128 * 1024 + 1), 413, "json_too_large"),
        ],
    )
    def test_signed_body_that_is_no_message(self, client: Client, body: bytes, status: int, code: str) -> None:
        headers = signed_headers(PrivateKey.generate(), "POST", "/register", body)
        response = client.post("/register", body, "application/json", headers=headers)
        problem_check(response, status, code)

    def test_repeated_signature_is_a_replay(self, client: Client) -> None:
        key = PrivateKey.generate()
        body = json.dumps(registration_make(secret=secret_of(user_make()), key=key)).encode()
        headers = signed_headers(key, "POST", "/register", body)
        assert client.post("/register", body, "application/json", headers=headers).status_code == 201
        replayed = client.post("/register", body, "application/json", headers=headers)
        problem_check(replayed, 401, "signature_replayed")
