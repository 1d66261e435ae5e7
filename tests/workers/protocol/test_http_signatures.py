"""Signed requests that verify: the vector of RFC 9421, our own, and those of another implementation."""

import base64
import datetime
import time

import http_message_signatures
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tests.workers.protocol.signed_requests import (
    BODY,
    HEADERS,
    KEY,
    NONCE,
    NOW,
    URL,
    signed,
    verified,
)
from workers.protocol.http_signatures import (
    REQUIRED_ALWAYS,
    REQUIRED_WITH_BODY,
    VerifiedRequest,
    request_key_id,
    request_sign,
    signature_base,
)
from workers.protocol.keys import PrivateKey
from workers.protocol.strict_base64 import base64_encode


def test_the_ed25519_vector_of_rfc_9421() -> None:
    # Appendix B.2.6, with the key of B.1.4.
    key = PrivateKey.from_raw(base64.b64decode("n4Ni+HpISpVObnQMW0wOhCKROaIKqKtW/2ZYb2p9KcU="))
    assert key.public.to_base64() == "JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="
    components = ["date", "@method", "@path", "@authority", "content-type", "content-length"]
    values = {
        "date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "@method": "POST",
        "@path": "/foo",
        "@authority": "example.com",
        "content-type": "application/json",
        "content-length": "18",
    }
    params = '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"'
    base = signature_base(components, params, values)
    assert base.decode() == (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n'
        '"@method": POST\n'
        '"@path": /foo\n'
        '"@authority": example.com\n'
        '"content-type": application/json\n'
        '"content-length": 18\n'
        f'"@signature-params": {params}'
    )
    expected = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    assert base64_encode(key.sign(base)) == expected


def test_a_signed_request_verifies_and_says_who_signed_it() -> None:
    headers = signed()
    assert verified(headers) == VerifiedRequest(KEY.public.key_id, NONCE, NOW)
    assert request_key_id(headers) == KEY.public.key_id


def test_a_request_without_body_verifies_and_needs_no_content_headers() -> None:
    for body in (None, b""):
        headers = signed(method="GET", headers={}, body=body)
        assert set(headers) == {"Signature-Input", "Signature"}
        assert verified(headers, method="GET", body=b"").key_id == KEY.public.key_id


def test_header_names_may_be_in_any_case_and_values_padded() -> None:
    assert verified({name.upper(): f" {value}\t" for name, value in signed().items()}).nonce == NONCE


@pytest.mark.parametrize(
    ("url", "authority", "scheme"),
    [
        ("https://portal.example/x", "portal.example", "https"),
        ("https://portal.example:443/x", "portal.example", "https"),
        ("https://Portal.Example/x", "portal.example:443", "https"),
        ("http://portal.example:80/x", "portal.example", "http"),
        ("http://portal.example/x", "PORTAL.example:80", "http"),
        ("http://127.0.0.1:8000/x", "127.0.0.1:8000", "https"),
        ("http://[::1]:8000/x", "[::1]:8000", "http"),
    ],
)
def test_an_authority_is_the_same_with_and_without_its_default_port(url: str, authority: str, scheme: str) -> None:
    assert verified(signed(url=url), authority=authority, path="/x", query="", scheme=scheme)


def test_an_url_without_a_path_has_the_path_slash() -> None:
    assert verified(signed(url="https://portal.example"), authority="portal.example", path="/", query="")


def test_two_requests_have_two_nonces() -> None:
    first, second = (verified(signed(nonce=None)).nonce for _ in range(2))
    assert first != second


class _Keys(http_message_signatures.HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(KEY.raw)

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        assert key_id == KEY.public.key_id
        return Ed25519PublicKey.from_public_bytes(KEY.public.raw)


def _prepared() -> requests.PreparedRequest:
    return requests.Request("POST", URL, headers=HEADERS, data=BODY).prepare()


def test_another_implementation_verifies_our_signature_and_refuses_it_when_changed() -> None:
    request = _prepared()
    assert request.url is not None
    now = int(time.time())
    request.headers.update(request_sign(method="POST", url=request.url, headers=request.headers, body=BODY, key=KEY, now=now))
    verifier = http_message_signatures.HTTPMessageVerifier(
        signature_algorithm=http_message_signatures.algorithms.ED25519, key_resolver=_Keys()
    )
    (result,) = verifier.verify(request, max_age=datetime.timedelta(minutes=1), expect_tag="nexapod")
    covered = [name.strip('"') for name in result.covered_components if "signature-params" not in name]
    assert covered == [*REQUIRED_ALWAYS, *REQUIRED_WITH_BODY]
    assert request_key_id(request.headers) == KEY.public.key_id
    request.method = "PUT"
    with pytest.raises(http_message_signatures.InvalidSignature):
        verifier.verify(request, max_age=datetime.timedelta(minutes=1), expect_tag="nexapod")


def test_a_signature_of_another_implementation_verifies_here() -> None:
    request = _prepared()
    now = datetime.datetime.now(datetime.UTC)
    http_message_signatures.HTTPMessageSigner(signature_algorithm=http_message_signatures.algorithms.ED25519, key_resolver=_Keys()).sign(
        request,
        key_id=KEY.public.key_id,
        created=now,
        expires=now + datetime.timedelta(minutes=5),
        nonce=NONCE,
        label="other-label",
        tag="nexapod",
        body=BODY,
        covered_component_ids=(
            "content-type",
            "user-agent",
            "@query",
            "@path",
            "content-digest",
            "@authority",
            "@method",
        ),
    )
    assert verified(dict(request.headers), now=int(now.timestamp())).nonce == NONCE
