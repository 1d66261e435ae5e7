"""The golden vectors: made again byte for byte, and believed by implementations that are not ours.

Ed25519 and DSSE: securesystemslib, with its Ed25519 in plain Python. RFC 9421: http-message-signatures. Canonical JSON: the rfc8785 package
and the standard library. Statements and join tokens: hashlib, base64 and json. Archives, logs and the ledger: test_vectors_results.py.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any

import http_message_signatures
import pytest
import requests
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError as OtherVerificationError
from securesystemslib.signer._key import SSlibKey

from jobs.descriptor import descriptor_parse
from tests.workers.protocol import make_vectors
from tests.workers.protocol.vector_files import VECTORS, decoded, ed25519_check, ed25519_public, sha256
from workers.protocol.canonical import json_parse
from workers.protocol.http_signatures import request_verify
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.key_rotation import KeyRotation, rotation_verify
from workers.protocol.keys import PublicKey
from workers.protocol.messages.base import Message, Problem
from workers.protocol.messages.delivery import ReceiptsAnswer, ReceiptSubmission
from workers.protocol.messages.exchange import ExchangeAnswer, ExchangeRequest
from workers.protocol.messages.joining import (
    CoordinatorInfo,
    KeyRotationAnswer,
    KeyRotationRequest,
    RegistrationAnswer,
    RegistrationRequest,
)
from workers.protocol.messages.order import Order
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, Manifest, ReceiptPredicate
from workers.protocol.succession import Succession, keys_of

RECEIPTS = ("completed", "failed")


# --- the files --------------------------------------------------------------------------------------------------------


def test_the_vectors_are_what_the_code_makes_today() -> None:
    for name, vector in make_vectors.vectors().items():
        assert (make_vectors.FOLDER / name).read_text(encoding="utf-8") == make_vectors.text_of(vector), name


def test_there_are_no_vectors_that_nothing_makes() -> None:
    assert {path.name for path in make_vectors.FOLDER.glob("*")} == set(make_vectors.vectors())


def test_check_names_what_would_change_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(make_vectors, "FOLDER", tmp_path / "vectors")
    monkeypatch.setattr(make_vectors, "DOCUMENT", tmp_path / "absent.md")
    assert make_vectors.main(["--check"]) == 1
    assert "order.json" in capsys.readouterr().out
    assert not (tmp_path / "vectors").exists()
    assert make_vectors.main([]) == 0
    assert make_vectors.main(["--check"]) == 0
    (tmp_path / "vectors" / "keys.json").write_text("{}")
    (tmp_path / "vectors" / "old.json").write_text("{}")
    capsys.readouterr()
    assert make_vectors.main(["--check"]) == 1
    assert capsys.readouterr().out.split() == ["keys.json", "old.json"]
    assert make_vectors.main([]) == 0
    assert make_vectors.main(["--check"]) == 0


# --- keys, digests, canonical JSON ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(VECTORS["keys"]))
def test_the_public_keys_follow_from_the_private_ones_by_another_ed25519(name: str) -> None:
    key = VECTORS["keys"][name]
    public = ed25519_public(decoded(key["private"]))
    assert base64.b64encode(public).decode() == key["public"]
    assert sha256(public) == key["key_id"]


@pytest.mark.parametrize("name", sorted(VECTORS["digests"]))
def test_digests_are_sha256_in_both_spellings(name: str) -> None:
    vector = VECTORS["digests"][name]
    raw = hashlib.sha256(decoded(vector["data_base64"]))
    assert vector["digest"] == f"sha256:{raw.hexdigest()}"
    assert vector["content_digest"] == f"sha-256=:{base64.b64encode(raw.digest()).decode()}:"


@pytest.mark.parametrize("vector", VECTORS["canonical"], ids=lambda vector: vector["name"])
def test_canonical_json_is_that_of_rfc_8785(vector: dict[str, str]) -> None:
    value = json.loads(vector["source"])
    assert rfc8785.dumps(value).decode() == vector["canonical"]
    assert json.loads(vector["canonical"]) == value
    assert sha256(vector["canonical"].encode()) == vector["digest"]


def test_the_example_of_rfc_8785_comes_out_as_the_rfc_says() -> None:
    vector = next(one for one in VECTORS["canonical"] if "example" in one["name"])
    assert vector["canonical"] == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_payloads_manifests_and_leaves_are_canonical_json() -> None:
    texts = [
        VECTORS["order"]["payload_text"],
        VECTORS["order"]["envelope_text"],
        *(VECTORS["receipt"][name]["payload_text"] for name in RECEIPTS),
        *(vector["manifest_text"] for vector in VECTORS["archive"].values()),
        *VECTORS["ledger"]["leaf_texts"],
        *VECTORS["log"]["text"].splitlines(),
        VECTORS["descriptor"]["canonical"],
        VECTORS["bundle"]["index_text"],
        VECTORS["bundle"]["seal"]["payload_text"],
        VECTORS["key_rotation"]["proof"]["payload_text"],
        VECTORS["succession"]["payload_text"],
    ]
    for text in texts:
        # No number here needs more than the standard library knows of RFC 8785.
        assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"), ensure_ascii=False) == text


# --- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "document"),
    [
        (CoordinatorInfo, VECTORS["join"]["coordinator"]),
        (RegistrationRequest, VECTORS["join"]["registration_request"]),
        (RegistrationAnswer, VECTORS["join"]["registration_answer"]),
        *((ExchangeRequest, one["request"]) for one in VECTORS["exchange"].values()),
        *((ExchangeAnswer, one["answer"]) for one in VECTORS["exchange"].values()),
        (Order, VECTORS["order"]["payload"]),
        (ReceiptSubmission, VECTORS["receipt"]["submission"]),
        (ReceiptsAnswer, VECTORS["receipt"]["answer"]),
        *((ReceiptPredicate, VECTORS["receipt"][name]["payload"]["predicate"]) for name in RECEIPTS),
        *((Manifest, one["manifest"]) for one in VECTORS["archive"].values()),
        (Problem, VECTORS["problem"]["message_invalid"]),
        (KeyRotation, VECTORS["key_rotation"]["proof"]["payload"]),
        (KeyRotationRequest, VECTORS["key_rotation"]["request"]),
        (KeyRotationAnswer, VECTORS["key_rotation"]["answer"]),
        (Succession, VECTORS["succession"]["payload"]),
        (CoordinatorInfo, VECTORS["succession"]["coordinator"]),
    ],
)
def test_every_message_reads_back_as_it_was_written(model: type[Message], document: dict[str, Any]) -> None:
    data = json.dumps(document).encode()
    assert json.loads(model.model_validate(json_parse(data, limit_bytes=2**20)).model_dump_json()) == document


def test_the_join_token_is_base64url_of_its_content() -> None:
    prefix, _, encoded = VECTORS["join"]["token"].partition(".")
    assert prefix == "nexa-join1"
    assert json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))) == VECTORS["join"]["token_content"]
    assert join_token_decode(VECTORS["join"]["token"]).portal == "https://portal.example"
    content = VECTORS["join"]["token_content"]
    assert content["coordinator"] == VECTORS["join"]["coordinator"]["key_id"] == VECTORS["keys"]["coordinator"]["key_id"]
    assert content["secret"] == VECTORS["join"]["registration_request"]["join_token"]


def test_the_orders_and_checkpoints_in_exchanges_are_those_of_the_other_vectors() -> None:
    assert VECTORS["exchange"]["work"]["answer"]["orders"] == [VECTORS["order"]["envelope"]]
    for exchange in VECTORS["exchange"].values():
        assert exchange["answer"]["request_id"] == exchange["request"]["request_id"]
        assert exchange["answer"]["checkpoint"] == VECTORS["ledger"]["checkpoint"]["note"]


def test_the_changes_of_keys_verify_as_their_readers_do_it() -> None:
    keys = {name: PublicKey.from_base64(key["public"]) for name, key in VECTORS["keys"].items()}
    rotation = VECTORS["key_rotation"]
    expected = KeyRotation.model_validate(rotation["proof"]["payload"])
    assert expected.old_key_id == keys["node"].key_id
    rotation_verify(rotation["request"]["proof"], new_key=keys["next_node"], expected=expected)
    info = CoordinatorInfo.model_validate(VECTORS["succession"]["coordinator"])
    found = keys_of(info.predecessors, present=PublicKey.from_base64(info.public_key), origin=info.origin)
    assert found == (keys["coordinator"], keys["next_coordinator"])


# --- signed requests --------------------------------------------------------------------------------------------------


class _Keys(http_message_signatures.HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id: str) -> Any:
        raise AssertionError("nothing is signed here")

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        assert key_id == VECTORS["keys"]["node"]["key_id"]
        return Ed25519PublicKey.from_public_bytes(decoded(VECTORS["keys"]["node"]["public"]))


class _TimelessVerifier(http_message_signatures.HTTPMessageVerifier):
    """The vectors were signed at a moment of their own."""

    max_clock_skew = datetime.timedelta(days=36500)


REQUESTS = {**VECTORS["request"], "key_rotation": VECTORS["key_rotation"]["signed"]}


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_another_implementation_verifies_the_signed_requests_and_refuses_them_when_changed(name: str) -> None:
    vector = REQUESTS[name]
    body = None if vector["body_base64"] is None else decoded(vector["body_base64"])
    request = requests.Request(vector["method"], vector["url"], headers=vector["headers"], data=body).prepare()
    verifier = _TimelessVerifier(signature_algorithm=http_message_signatures.algorithms.ED25519, key_resolver=_Keys())
    required = ("@method", "@authority", "@path", "@query") + (("content-digest", "content-type") if body else ())
    (result,) = verifier.verify(request, max_age=None, expect_tag="nexapod", require_components=required, body=body or b"")
    assert result.parameters["created"] == vector["signed_at"]
    assert result.parameters["expires"] == vector["signed_at"] + 300
    request.url = vector["url"].replace("portal.", "other.")
    with pytest.raises(http_message_signatures.InvalidSignature):
        verifier.verify(request, max_age=None, expect_tag="nexapod")


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_the_signature_is_one_over_the_signature_base(name: str) -> None:
    vector = REQUESTS[name]
    *lines, last = vector["signature_base"].split("\n")
    label, _, parameters = vector["headers"]["Signature-Input"].partition("=")
    assert last == f'"@signature-params": {parameters}'
    assert [line.partition(": ")[0] for line in lines] == parameters[1 : parameters.index(")")].split(" ")
    signature = decoded(vector["headers"]["Signature"].removeprefix(f"{label}=:").removesuffix(":"))
    ed25519_check(signature, vector["signature_base"].encode(), decoded(VECTORS["keys"]["node"]["public"]))


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_our_own_verifier_accepts_the_signed_requests(name: str) -> None:
    vector = REQUESTS[name]
    prepared = requests.Request("GET", vector["url"]).prepare()
    path, _, query = prepared.path_url.partition("?")
    verified = request_verify(
        method=vector["method"],
        authority=vector["url"].split("/")[2],
        path=path,
        query=query,
        headers=vector["headers"],
        body=decoded(vector["body_base64"] or ""),
        key=PublicKey.from_base64(VECTORS["keys"]["node"]["public"]),
        now=vector["signed_at"],
    )
    assert verified.key_id == vector["key_id"]


# --- envelopes --------------------------------------------------------------------------------------------------------


def _envelopes() -> list[tuple[str, dict[str, Any], str]]:
    ours = [
        ("order", VECTORS["order"], "coordinator"),
        ("seal", VECTORS["bundle"]["seal"], "coordinator"),
        ("key rotation", VECTORS["key_rotation"]["proof"], "next_node"),
        ("succession", VECTORS["succession"], "coordinator"),
    ]
    return [*ours, *((name, VECTORS["receipt"][name], "node") for name in RECEIPTS)]


@pytest.mark.parametrize(("name", "vector", "signer"), _envelopes())
def test_securesystemslib_verifies_the_envelopes_and_refuses_them_when_changed(name: str, vector: dict[str, Any], signer: str) -> None:
    key = VECTORS["keys"][signer]
    public = SSlibKey(key["key_id"], "ed25519", "ed25519", {"public": decoded(key["public"]).hex()})
    Envelope.from_dict(json.loads(vector["envelope_text"])).verify([public], 1)
    changed = json.loads(vector["envelope_text"])
    changed["payload"] = base64.b64encode(vector["payload_text"].replace(":1", ":2", 1).encode()).decode()
    with pytest.raises(OtherVerificationError):
        Envelope.from_dict(changed).verify([public], 1)


@pytest.mark.parametrize(("name", "vector", "signer"), _envelopes())
def test_another_ed25519_verifies_the_signature_over_the_dsse_encoding(name: str, vector: dict[str, Any], signer: str) -> None:
    envelope, payload = vector["envelope"], vector["payload_text"].encode()
    kind = envelope["payloadType"]
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    assert signed == decoded(vector["signed_bytes_base64"])
    assert decoded(envelope["payload"]) == payload
    ed25519_check(decoded(envelope["signatures"][0]["sig"]), signed, decoded(VECTORS["keys"][signer]["public"]))


def test_the_receipt_names_everything_by_digest() -> None:
    order, receipt, log = VECTORS["order"], VECTORS["receipt"]["completed"], VECTORS["log"]
    archive = VECTORS["archive"]["plain"]
    assert sha256(order["payload_text"].encode()) == order["order_digest"] == log["order_digest"]
    answer = VECTORS["receipt"]["answer"]["results"][0]["answer"]
    assert sha256(receipt["payload_text"].encode()) == receipt["receipt_digest"] == answer["receipt_digest"]
    [submitted] = VECTORS["receipt"]["submission"]["receipts"]
    assert sha256(decoded(submitted["log"])) == log["reference"]["digest"]
    assert sha256(decoded(submitted["archive"])) == archive["archive"]["digest"]
    statement = receipt["payload"]
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == RECEIPT_PREDICATE_TYPE
    predicate = statement["predicate"]
    assert predicate["order_digest"] == order["order_digest"]
    assert predicate["log"] == log["reference"]
    assert predicate["archive"] == archive["archive"]
    assert predicate["result_digest"] == archive["result_digest"]
    subjects = {subject["name"]: "sha256:" + subject["digest"]["sha256"] for subject in statement["subject"]}
    assert subjects == {
        "archive": archive["archive"]["digest"],
        "log": log["reference"]["digest"],
        "manifest": archive["result_digest"],
    }
    failed = VECTORS["receipt"]["failed"]["payload"]
    assert [subject["name"] for subject in failed["subject"]] == ["log"]
    assert failed["predicate"]["failure"]["code"] == "exit_nonzero"


# --- descriptor ------------------------------------------------------------------------------------------


def test_the_descriptor_digest_is_of_what_was_written() -> None:
    vector = VECTORS["descriptor"]
    descriptor_parse(vector["descriptor"])
    assert json.loads(vector["canonical"]) == vector["descriptor"]
    assert sha256(vector["canonical"].encode()) == vector["descriptor_digest"]
