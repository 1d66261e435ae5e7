"""Signed requests that are refused: changed, stale, incomplete, malformed."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.protocol.signed_requests import BODY, COMPONENTS, KEY, NONCE, NOW, PARAMETERS, params_of, resigned, signed, verified
from workers.protocol.digests import content_digest_header, digest_of
from workers.protocol.errors import (
    ContentDigestMalformedError,
    ContentDigestMismatchError,
    KeyWrongError,
    NotSignableError,
    SignatureIncompleteError,
    SignatureMalformedError,
    SignatureMissingError,
    SignatureRetargetedError,
    SignatureStaleError,
    VerificationError,
)
from workers.protocol.http_signatures import (
    LIFETIME_SECONDS,
    request_key_id,
)
from workers.protocol.keys import PrivateKey, PublicKey


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "GET"},
        {"method": "post"},
        {"authority": "other.example:8443"},
        {"authority": "portal.example"},
        {"path": "/api/v1/exchange/"},
        {"path": "/api/v1/receipts"},
        {"query": ""},
        {"query": "wait=26&x=%20"},
        {"query": "wait=25&x=+"},
        {"body": b""},
    ],
)
def test_a_signature_for_another_target_is_refused(changes: dict[str, Any]) -> None:
    headers = signed()
    if "body" in changes:
        del headers["Content-Digest"], headers["Content-Type"]
    with pytest.raises(SignatureRetargetedError):
        verified(headers, **changes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Content-Type", "text/plain"),
        ("Content-Digest", content_digest_header(b"other")),
    ],
)
def test_a_covered_header_that_was_changed_or_removed_is_refused(name: str, value: str) -> None:
    headers = signed()
    with pytest.raises(SignatureRetargetedError):
        verified(headers | {name: value})
    del headers[name]
    with pytest.raises(SignatureRetargetedError):
        verified(headers)


def test_a_header_cannot_stand_in_for_a_derived_component() -> None:
    with pytest.raises(SignatureRetargetedError):
        verified(signed() | {"@path": "/api/v1/exchange"}, path="/other")


def test_a_header_sent_twice_is_both_values() -> None:
    with pytest.raises(SignatureRetargetedError):
        verified(signed() | {"content-type": "application/json"})


def test_another_body_is_refused_as_content_digest_mismatch() -> None:
    with pytest.raises(ContentDigestMismatchError):
        verified(signed(), body=BODY + b" ")
    with pytest.raises(ContentDigestMismatchError):
        verified(signed(), body=b"")


@pytest.mark.parametrize("seconds", [61, -61, 3600, -86400])
def test_a_stale_signature_is_refused_and_the_message_says_by_how_much(seconds: int) -> None:
    with pytest.raises(SignatureStaleError, match=rf"{abs(seconds)} seconds {'before' if seconds > 0 else 'after'}"):
        verified(signed(), now=NOW + seconds)


@pytest.mark.parametrize("seconds", [60, -60, 0])
def test_a_signature_at_the_edge_of_the_tolerance_is_accepted(seconds: int) -> None:
    assert verified(signed(), now=NOW + seconds)


def test_an_expired_signature_is_refused_also_within_a_long_tolerance() -> None:
    assert verified(signed(), now=NOW + LIFETIME_SECONDS, tolerance_seconds=3600)
    with pytest.raises(SignatureStaleError, match="expired 1 seconds ago"):
        verified(signed(), now=NOW + LIFETIME_SECONDS + 1, tolerance_seconds=3600)


def test_another_key_is_refused_whatever_the_request_names() -> None:
    other = PrivateKey.generate()
    with pytest.raises(KeyWrongError):
        verified(signed(key=other))
    headers = signed(key=other)
    headers["Signature-Input"] = headers["Signature-Input"].replace(other.public.key_id, KEY.public.key_id)
    with pytest.raises(SignatureRetargetedError):
        verified(headers)


@pytest.mark.parametrize("name", ["Signature", "Signature-Input"])
def test_a_request_without_signature_is_refused(name: str) -> None:
    headers = signed()
    del headers[name]
    with pytest.raises(SignatureMissingError):
        verified(headers)
    with pytest.raises(SignatureMissingError):
        request_key_id(headers)


def test_components_and_parameters_may_come_in_any_order_with_more_of_both() -> None:
    parameters = dict(reversed((PARAMETERS | {"x-extra": r'"a \"quoted\\ word"', "n": "-5"}).items()))
    params = params_of([*reversed(COMPONENTS), "user-agent"], parameters)
    assert verified(resigned(params)).nonce == NONCE


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_signature_that_leaves_a_required_component_uncovered_is_refused(name: str) -> None:
    params = params_of([other for other in COMPONENTS if other != name], PARAMETERS)
    with pytest.raises(SignatureIncompleteError, match=name):
        verified(resigned(params))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_signature_without_one_of_its_parameters_is_refused(name: str) -> None:
    parameters = {other: value for other, value in PARAMETERS.items() if other != name}
    with pytest.raises(SignatureMalformedError, match=name):
        verified(resigned(params_of(COMPONENTS, parameters)))


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": '"rsa-v1_5-sha256"'},
        {"tag": '"other"'},
        {"keyid": '"me"'},
        {"keyid": "7"},
        {"nonce": '"short"'},
        {"nonce": f'"{"x" * 65}"'},
        {"nonce": '"with spaces in it, and so on"'},
        {"nonce": "1"},
        {"created": f'"{NOW}"'},
        {"expires": f'"{NOW}"'},
    ],
    ids=repr,
)
def test_a_signature_with_a_wrong_parameter_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(SignatureMalformedError):
        verified(resigned(params_of(COMPONENTS, PARAMETERS | changes)))


GOOD = params_of(COMPONENTS, PARAMETERS)


@pytest.mark.parametrize(
    "params",
    [
        "",
        "()",
        GOOD.replace('("@method" ', "("),
        params_of([], PARAMETERS),
        params_of([*COMPONENTS, "@method"], PARAMETERS),
        params_of([*COMPONENTS, "@status"], PARAMETERS),
        params_of([*COMPONENTS, "@signature-params"], PARAMETERS),
        params_of([*COMPONENTS, "User-Agent"], PARAMETERS),
        GOOD.replace('"@query"', '"@query";req'),
        GOOD.replace('"@query"', '"@query-param";name="wait"'),
        GOOD.replace('" "', '"  "', 1),
        GOOD.replace(";created", "; created"),
        GOOD + ";created=1",
        GOOD + ";flag",
        GOOD + ";flag=?1",
        GOOD + ";decimal=1.5",
        GOOD + ";token=abc",
        GOOD + ";bytes=:AAAA:",
        GOOD + ";long=1234567890123456",
        GOOD + ';open="',
        GOOD + ';escape="\\x"',
        GOOD + ';umlaut="ä"',
        GOOD + ", t=" + GOOD,
        GOOD + f';long="{"x" * 2048}"',
        GOOD + "\n",
    ],
    ids=lambda params: params[-40:],
)
def test_a_malformed_signature_input_is_refused(params: str) -> None:
    headers = signed() | {"Signature-Input": f"nexapod={params}"}
    if params == GOOD.replace('("@method" ', "("):
        with pytest.raises(SignatureIncompleteError):
            verified(headers)
        return
    with pytest.raises(SignatureMalformedError):
        verified(headers)
    with pytest.raises(SignatureMalformedError):
        request_key_id(headers)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "nexapod",
        "nexapod=",
        "nexapod=::",
        "nexapod=:AAAA:",
        f"nexapod=:{'A' * 85}B==:",
        f"nexapod=:{'A' * 86}:",
        f"other=:{'A' * 86}==:",
        f"nexapod={'A' * 86}==",
        f"nexapod=:{'A' * 86}==:, nexapod=:{'A' * 86}==:",
        f"nexapod=:{'A' * 86}==:;x=1",
        f"nexapod=:{'A' * 4000}:",
    ],
)
def test_a_malformed_signature_is_refused(signature: str) -> None:
    with pytest.raises(SignatureMalformedError):
        verified(signed() | {"Signature": signature})


@pytest.mark.parametrize("changes", [{"path": "/a\n"}, {"path": "/ä"}, {"query": "\0"}, {"authority": "a\rb"}, {"method": "G\n"}])
def test_a_component_that_could_pass_for_another_line_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(SignatureMalformedError):
        verified(signed(), **changes)


def test_a_malformed_content_digest_is_refused_also_when_rightly_signed() -> None:
    with pytest.raises(ContentDigestMalformedError):
        verified(resigned(GOOD, **{"content-digest": "sha-512=:AAAA:"}))


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "/relative"},
        {"url": "ftp://portal.example/x"},
        {"url": "https:///x"},
        {"url": "https://user:secret@portal.example/x"},
        {"url": "https://[portal/x"},
        {"url": "https://portal.example/ä"},
        {"headers": {}},
        {"headers": {"Content-Type": "text/plain\nX: y"}},
        {"nonce": "short"},
        {"nonce": 'quote"quote"quote"quote'},
        {"method": "GET\n"},
    ],
    ids=repr,
)
def test_what_cannot_be_signed_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(NotSignableError) as caught:
        signed(**changes)
    assert "secret" not in str(caught.value)


FIELD = st.text(st.characters(min_codepoint=0, max_codepoint=0x2FF), max_size=60) | st.lists(
    st.sampled_from(["s", "=", "(", ")", '"', "@method", " ", ";", "keyid", ":", "AAAA", "\\", "1", ","]), max_size=30
).map("".join)


@given(FIELD, FIELD)
def test_any_fields_are_refused_with_the_documented_error(signature_input: str, signature: str) -> None:
    with pytest.raises((SignatureMalformedError, SignatureIncompleteError)):
        verified({"Signature-Input": signature_input, "Signature": signature})


@given(st.data())
def test_a_signature_field_with_one_character_changed_is_refused(draw: st.DataObject) -> None:
    headers = signed()
    name = draw.draw(st.sampled_from(["Signature-Input", "Signature", "Content-Digest", "Content-Type"]))
    position = draw.draw(st.integers(0, len(headers[name]) - 1))
    character = draw.draw(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
    changed = headers[name][:position] + character + headers[name][position + 1 :]
    try:
        verified(headers | {name: changed})
    except VerificationError:
        assert changed != headers[name]
        return
    assert changed.strip() == headers[name]


def test_time_grows_no_faster_than_the_field() -> None:
    started = time.process_time()
    for piece in ('"a" ', ';a="', ";a=1", "\\", '"', "a=("):
        field = "s=(" + piece * 500
        with pytest.raises(SignatureMalformedError):
            request_key_id({"Signature-Input": field[:2048], "Signature": "s=:AAAA:"})
    assert time.process_time() - started < 2


def test_a_key_is_looked_up_by_the_id_that_its_bytes_give() -> None:
    assert request_key_id(signed()) == digest_of(PublicKey(KEY.public.raw).raw)
