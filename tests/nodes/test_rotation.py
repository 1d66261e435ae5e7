"""The rotation of a node's key through Django's whole stack, and what the old key is good for afterwards."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from nodes.authentication import SignedBy
from nodes.errors import KeyRegisteredError, KeyRetiredError
from nodes.models import Node, NodeKey
from nodes.moderation import node_quarantine
from nodes.rotation import node_key_rotate
from nodes.selectors import node_public_key
from nodes.services import join_token_mint, node_revoke
from tests.factories.nodes import ORIGIN, node_make, registration_make, signed_post
from tests.factories.people import moderator_make, user_make
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.key_rotation import KeyRotation, rotation_prove
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.joining import KeyRotationRequest

ADDRESS = "/api/v1/nodes/self/key"


def message_make(node: Node, old: PrivateKey, new: PrivateKey, **changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"origin": ORIGIN, "node_id": node.pk, "old_key_id": old.public.key_id, **changed}
    proof = rotation_prove(KeyRotation(**values), new_key=new)
    return {"protocol_version": 1, "public_key": new.public.to_base64(), "proof": proof}


def rotate(node: Node, old: PrivateKey, new: PrivateKey, **changed: Any) -> Any:
    return signed_post(Client(), ADDRESS, message_make(node, old, new, **changed), old)


def problem_check(response: Any, status: int, code: str) -> None:
    assert (response.status_code, response.json()["code"]) == (status, code), response.content


def opens(key: PrivateKey) -> bool:
    """Whether the key opens a signed address."""
    return bool(signed_post(Client(), "/api/v1/exchange", {}, key).json()["code"] == "message_invalid")


@pytest.mark.django_db
class TestRotation:
    def test_the_new_key_opens_and_the_old_one_nothing(self) -> None:
        node, old = node_make(user_make())
        new = PrivateKey.generate()
        answer = rotate(node, old, new)
        assert (answer.status_code, answer.json()) == (
            200,
            {"protocol_version": 1, "node_id": str(node.pk), "key_id": new.public.key_id},
        )
        node.refresh_from_db()
        assert (node.key_id, bytes(node.public_key)) == (new.public.key_id, new.public.raw)
        assert opens(new)
        problem_check(signed_post(Client(), "/api/v1/exchange", {}, old), 403, "key_retired")
        history = {key.key_id: key.successor_id for key in node.keys.all()}
        assert history == {old.public.key_id: new.public.key_id, new.public.key_id: None}

    def test_a_lost_answer_is_given_again_and_nothing_changes(self) -> None:
        node, old = node_make(user_make())
        new = PrivateKey.generate()
        first, again = rotate(node, old, new), rotate(node, old, new)
        assert first.json() == again.json()
        assert node.keys.count() == 2

    def test_the_copy_of_the_old_key_rotates_to_nothing(self) -> None:
        node, old = node_make(user_make())
        rotate(node, old, PrivateKey.generate())
        problem_check(rotate(node, old, PrivateKey.generate()), 403, "key_retired")
        assert node.keys.count() == 2

    def test_again_and_again(self) -> None:
        node, key = node_make(user_make())
        for _ in range(3):
            new = PrivateKey.generate()
            assert rotate(node, key, new).status_code == 200
            key = new
        assert opens(key)
        assert node.keys.filter(retired_at=None).get().key_id == key.public.key_id

    @pytest.mark.parametrize("which", ["own", "old", "other", "other's old"])
    def test_a_key_that_ever_was_a_nodes_is_not_taken(self, which: str) -> None:
        node, first = node_make(user_make())
        other, other_first = node_make(user_make())
        second, other_second = PrivateKey.generate(), PrivateKey.generate()
        rotate(node, first, second)
        rotate(other, other_first, other_second)
        new = {"own": second, "old": first, "other": other_second, "other's old": other_first}[which]
        problem_check(rotate(node, second, new), 409, "key_registered")
        assert opens(second)

    def test_a_retired_key_registers_nothing(self) -> None:
        owner = user_make()
        node, old = node_make(owner)
        rotate(node, old, PrivateKey.generate())
        secret = join_token_decode(join_token_mint(owner=owner, lifetime_seconds=3600)).secret
        problem_check(signed_post(Client(), "/register", registration_make(secret=secret, key=old), old), 409, "key_registered")

    @pytest.mark.parametrize(
        "changed",
        [{"origin": "https://other.example"}, {"node_id": "6f1c0a52-5f0e-4a53-9a41-0d6c2b7f1e01"}, {"old_key_id": "sha256:" + "ab" * 32}],
    )
    def test_a_proof_of_another_rotation_is_refused(self, changed: dict[str, Any]) -> None:
        node, old = node_make(user_make())
        problem_check(rotate(node, old, PrivateKey.generate(), **changed), 400, "key_rotation_invalid")
        assert opens(old)

    def test_a_key_that_the_sender_does_not_hold_is_refused(self) -> None:
        node, old = node_make(user_make())
        message = message_make(node, old, PrivateKey.generate())
        message["public_key"] = PrivateKey.generate().public.to_base64()
        problem_check(signed_post(Client(), ADDRESS, message, old), 401, "key_wrong")
        message["public_key"] = "AAAA"
        problem_check(signed_post(Client(), ADDRESS, message, old), 400, "key_malformed")

    def test_only_the_old_key_asks(self) -> None:
        node, old = node_make(user_make())
        stranger, new = PrivateKey.generate(), PrivateKey.generate()
        _, other = node_make(user_make())
        message = message_make(node, old, new)
        problem_check(signed_post(Client(), ADDRESS, message, stranger), 401, "node_unknown")
        problem_check(signed_post(Client(), ADDRESS, message, new), 401, "node_unknown")
        problem_check(signed_post(Client(), ADDRESS, message, other), 400, "key_rotation_invalid")
        problem_check(Client().post(ADDRESS, message, content_type="application/json"), 401, "signature_missing")
        assert Client().get(ADDRESS).status_code == 405

    def test_a_revoked_node_rotates_nothing_a_quarantined_one_does(self) -> None:
        node, old = node_make(user_make())
        node_quarantine(node=node, by=moderator_make(), reason="Odd results.")
        new = PrivateKey.generate()
        assert rotate(node, old, new).status_code == 200
        node_revoke(node=node)
        problem_check(rotate(node, new, PrivateKey.generate()), 403, "node_revoked")

    @pytest.mark.parametrize("body", [{}, {"protocol_version": 9}, {"protocol_version": 1, "public_key": "x"}])
    def test_messages_of_another_form_are_refused(self, body: dict[str, Any]) -> None:
        _, old = node_make(user_make())
        answer = signed_post(Client(), ADDRESS, body, old)
        assert answer.json()["code"] in ("message_invalid", "protocol_unsupported")

    def test_a_clone_that_was_seen_is_forgotten(self) -> None:
        node, old = node_make(user_make(), clone_seen_at=timezone.now(), clone_told_at=timezone.now())
        rotate(node, old, PrivateKey.generate())
        node.refresh_from_db()
        assert (node.clone_seen_at, node.clone_told_at) == (None, None)

    def test_public_keys_of_a_node_by_their_ids(self) -> None:
        node, old = node_make(user_make())
        _, stranger = node_make(user_make())
        new = PrivateKey.generate()
        rotate(node, old, new)
        node.refresh_from_db()
        for key in (old, new):
            assert node_public_key(node=node, key_id=key.public.key_id) == key.public
        assert node_public_key(node=node, key_id=stranger.public.key_id) == new.public


@pytest.mark.django_db
class TestDatabase:
    def test_a_node_has_one_current_key(self) -> None:
        node, _ = node_make(user_make())
        other = PrivateKey.generate().public
        with pytest.raises(IntegrityError, match="node_key_one_current"), transaction.atomic():
            NodeKey.objects.create(key_id=other.key_id, node=node, public_key=other.raw)

    def test_a_retired_key_has_a_successor(self) -> None:
        node, key = node_make(user_make())
        with pytest.raises(IntegrityError, match="node_key_retired_has_successor"), transaction.atomic():
            node.keys.filter(pk=key.public.key_id).update(retired_at=timezone.now())


def test_of_rotations_at_once_one_wins(own_database: str) -> None:
    node, old = node_make(user_make())
    signer = SignedBy(node, NodeKey.objects.select_related("node").get(pk=old.public.key_id), 0)
    news = [PrivateKey.generate() for _ in range(4)]
    outcomes: list[type[Exception] | str] = []
    barrier = threading.Barrier(len(news))

    def run(new: PrivateKey) -> None:
        message = KeyRotationRequest.model_validate(message_make(node, old, new))
        barrier.wait(10)
        try:
            outcomes.append(node_key_rotate(signer=signer, message=message).key_id)
        except (KeyRetiredError, KeyRegisteredError) as error:
            outcomes.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(new,)) for new in news]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    node.refresh_from_db()
    assert sorted(str(one) for one in outcomes) == sorted([node.key_id, *[str(KeyRetiredError)] * 3])
    assert node.keys.filter(retired_at=None).get().key_id == node.key_id
