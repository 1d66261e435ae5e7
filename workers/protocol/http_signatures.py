"""Signed requests: HTTP Message Signatures (RFC 9421) in the one profile that hosts and portal speak.

A request carries one signature, Ed25519, that covers

    "@method" "@authority" "@path" "@query"         always
    "content-digest" "content-type"                 when it has a body (the digest binds the body, RFC 9530)

with the parameters `created` and `expires` (seconds since 1970), `nonce` (for the server's replay memory), `keyid` (a
key id as in `keys.py`), `alg="ed25519"` and `tag="nexapod"`. Any RFC 9421 implementation can produce such a signature:
the label, the order of components and parameters, and further covered fields are free. Component parameters (`;sf`,
`;req` and so on) and further signatures are refused: nothing here needs them, and each is a way to read one message
twice.
"""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from workers.protocol.digests import content_digest_check, content_digest_header, digest_parse
from workers.protocol.errors import (
    DigestMalformedError,
    KeyWrongError,
    NotSignableError,
    SignatureIncompleteError,
    SignatureInvalidError,
    SignatureMalformedError,
    SignatureMissingError,
    SignatureRetargetedError,
    SignatureStaleError,
)
from workers.protocol.keys import SIGNATURE_BYTES, PrivateKey, PublicKey
from workers.protocol.strict_base64 import base64_decode, base64_encode

LABEL = "nexapod"
TAG = "nexapod"
ALGORITHM = "ed25519"
LIFETIME_SECONDS = 300
TOLERANCE_SECONDS = 60
FIELD_LIMIT_CHARACTERS = 2048

REQUIRED_ALWAYS = ("@method", "@authority", "@path", "@query")
REQUIRED_WITH_BODY = ("content-digest", "content-type")

_DEFAULT_PORTS = {"https": ":443", "http": ":80"}

# The part of Structured Fields (RFC 8941) that this profile uses, in its canonical spelling only: what was parsed can
# then go into the signature base as it came.
_KEY = r"[a-z*][a-z0-9_\-.*]*"
_STRING = r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
_COMPONENT = r'"@?[a-z0-9\-_.]+"'
_INPUT = re.compile(rf"({_KEY})=(\(({_COMPONENT}(?: {_COMPONENT})*)\)((?:;{_KEY}=(?:-?[0-9]{{1,15}}|{_STRING}))*))")
_PARAMETER = re.compile(rf";({_KEY})=(?:(-?[0-9]{{1,15}})|({_STRING}))")
_SIGNATURE = re.compile(rf"({_KEY})=:([A-Za-z0-9+/=]*):")
_NONCE = re.compile(r"[A-Za-z0-9_\-]{16,64}")
_VALUE = re.compile(r"[\x20-\x7e]*")


@dataclass(frozen=True)
class VerifiedRequest:
    """What a verified signature says: who signed, when (seconds since 1970), and the nonce to remember until then.

    Verifying is not yet refusing replays: the caller must accept each `(key_id, nonce)` once while `created` is within
    the tolerance.
    """

    key_id: str
    nonce: str
    created: int


@dataclass(frozen=True)
class _SignatureInput:
    components: tuple[str, ...]
    parameters: Mapping[str, int | str]
    params_text: str
    signature: bytes

    def text(self, name: str) -> str:
        value = self.parameters.get(name)
        if not isinstance(value, str):
            raise SignatureMalformedError(f"The signature must have the string parameter {name!r}.")
        return value

    def integer(self, name: str) -> int:
        value = self.parameters.get(name)
        if not isinstance(value, int):
            raise SignatureMalformedError(f"The signature must have the integer parameter {name!r}.")
        return value


def request_sign(
    *,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    key: PrivateKey,
    now: int,
    nonce: str | None = None,
) -> dict[str, str]:
    """The headers to add: Signature-Input, Signature and, with a body, Content-Digest.

    `url` is the absolute URL as it goes over the wire, percent-encoded (for `requests`: of the prepared request); `now`
    is in seconds since 1970; `nonce` is random unless a test needs the same bytes twice. A body needs a Content-Type
    among `headers`; an empty body counts as none. Raises NotSignableError.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise NotSignableError(f"Not a URL: {error}.") from error
    authority = parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
    if parts.scheme not in _DEFAULT_PORTS or not authority or "@" in authority:
        raise NotSignableError("Only absolute http(s) URLs without credentials can be signed.")
    if nonce is None:
        nonce = secrets.token_urlsafe(16)
    if _NONCE.fullmatch(nonce) is None:
        raise NotSignableError("A nonce is 16 to 64 characters of base64url.")
    added: dict[str, str] = {}
    components = list(REQUIRED_ALWAYS)
    if body:
        added["Content-Digest"] = content_digest_header(body)
        components += REQUIRED_WITH_BODY
    values = _component_values(method, authority, parts.path, parts.query, {**headers, **added})
    missing = [name for name in components if name not in values]
    if missing:
        raise NotSignableError(f"A request with a body must have the header {missing[0]!r} to be signed.")
    covered = " ".join(f'"{name}"' for name in components)
    params_text = (
        f'({covered});created={now};expires={now + LIFETIME_SECONDS};nonce="{nonce}";keyid="{key.public.key_id}"'
        f';alg="{ALGORITHM}";tag="{TAG}"'
    )
    try:
        base = signature_base(components, params_text, values)
    except SignatureMalformedError as error:
        raise NotSignableError(str(error)) from error
    added["Signature-Input"] = f"{LABEL}={params_text}"
    added["Signature"] = f"{LABEL}=:{base64_encode(key.sign(base))}:"
    return added


def request_key_id(headers: Mapping[str, str]) -> str:
    """The key id that the request names: an UNVERIFIED hint for looking up the key to verify it with.

    Raises SignatureMissingError, SignatureMalformedError.
    """
    return _key_id_of(_signature_parse(headers))


def request_verify(
    *,
    method: str,
    authority: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    key: PublicKey,
    now: int,
    tolerance_seconds: int = TOLERANCE_SECONDS,
    scheme: Literal["http", "https"] = "https",
) -> VerifiedRequest:
    """Who signed this request, after the check that `key` signed exactly it, within `tolerance_seconds` of `now`.

    `authority` is the Host field as received; `path` and `query` as in the request line, percent-encoded, the query
    without its `?` and "" when there is none; `scheme` is the one the client used, for its default port. Header names
    may be in any case.

    Raises SignatureMissingError, SignatureMalformedError, SignatureIncompleteError, SignatureStaleError, KeyWrongError,
    SignatureRetargetedError, ContentDigestMalformedError, ContentDigestMismatchError.
    """
    found = _signature_parse(headers)
    key_id = _key_id_of(found)
    if key_id != key.key_id:
        raise KeyWrongError(f"Expected a request signed by {key.key_id}; this one names {key_id}.")
    nonce = found.text("nonce")
    if _NONCE.fullmatch(nonce) is None:
        raise SignatureMalformedError("The signature's nonce must be 16 to 64 characters of base64url.")
    _profile_check(found, has_body=bool(body))
    created = _time_check(found, now=now, tolerance_seconds=tolerance_seconds)

    normal_authority = authority.lower().removesuffix(_DEFAULT_PORTS[scheme])
    values = _component_values(method, normal_authority, path, query, headers)
    absent = [name for name in found.components if name not in values]
    if absent:
        raise SignatureRetargetedError(f"The signature covers {absent[0]!r}, which this request does not have.")
    try:
        key.verify(found.signature, signature_base(found.components, found.params_text, values))
    except SignatureInvalidError as error:
        raise SignatureRetargetedError(
            f"The signature is not one of {key_id} over {values['@method']} {values['@authority']}{values['@path']}"
            f"{values['@query']}: it was made for another request, or the request was changed on its way."
        ) from error
    # Last, so that only a body that somebody vouched for is hashed.
    if body or "content-digest" in found.components:
        content_digest_check(values["content-digest"], body)
    return VerifiedRequest(key_id=key_id, nonce=nonce, created=created)


def signature_base(components: tuple[str, ...] | list[str], params_text: str, values: Mapping[str, str]) -> bytes:
    """The bytes that are signed (RFC 9421, section 2.5): a line for each component, then the parameters.

    Each of `components` must be a key of `values`. Raises SignatureMalformedError for a value with characters other
    than visible ASCII and spaces, which could pass for another line.
    """
    lines = []
    for name in components:
        value = values[name]
        if _VALUE.fullmatch(value) is None:
            raise SignatureMalformedError(f"The value of {name!r} must be visible ASCII to be signed.")
        lines.append(f'"{name}": {value}')
    lines.append(f'"@signature-params": {params_text}')
    return "\n".join(lines).encode("ascii")


def _component_values(method: str, authority: str, path: str, query: str, headers: Mapping[str, str]) -> dict[str, str]:
    """What each component of this request says (RFC 9421, sections 2.1 and 2.2), by the component's name."""
    values: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        stripped = value.strip(" \t")
        values[lower] = f"{values[lower]}, {stripped}" if lower in values else stripped
    # After the headers: none of them may stand in for a derived component.
    values.update({"@method": method, "@authority": authority, "@path": path or "/", "@query": f"?{query}"})
    return values


def _signature_parse(headers: Mapping[str, str]) -> _SignatureInput:
    """The one signature of a request, its parameters not yet judged."""
    fields = {name.lower(): value for name, value in headers.items()}
    input_text, signature_text = fields.get("signature-input"), fields.get("signature")
    if input_text is None or signature_text is None:
        raise SignatureMissingError("The request must be signed: it needs Signature-Input and Signature (RFC 9421).")
    if len(input_text) > FIELD_LIMIT_CHARACTERS or len(signature_text) > FIELD_LIMIT_CHARACTERS:
        raise SignatureMalformedError(f"The signature fields have at most {FIELD_LIMIT_CHARACTERS} characters each.")
    input_match = _INPUT.fullmatch(input_text.strip(" \t"))
    signature_match = _SIGNATURE.fullmatch(signature_text.strip(" \t"))
    if input_match is None or signature_match is None:
        raise SignatureMalformedError(
            "Signature-Input and Signature must hold one signature each, in canonical spelling, "
            "with plain components and integer or string parameters."
        )
    if input_match.group(1) != signature_match.group(1):
        raise SignatureMalformedError("Signature-Input and Signature must have the same label.")
    components = tuple(name.strip('"') for name in input_match.group(3).split(" "))
    if len(set(components)) != len(components):
        raise SignatureMalformedError("The signature covers a component twice.")
    unknown = [name for name in components if name.startswith("@") and name not in REQUIRED_ALWAYS]
    if unknown:
        raise SignatureMalformedError(f"The signature covers {unknown[0]!r}, which this profile does not use.")
    try:
        signature = base64_decode(signature_match.group(2))
    except ValueError as error:
        raise SignatureMalformedError(f"Signature: {error}.") from error
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureMalformedError(f"A signature is {SIGNATURE_BYTES} bytes; found {len(signature)}.")
    return _SignatureInput(components, _parameters_parse(input_match.group(4)), input_match.group(2), signature)


def _parameters_parse(text: str) -> dict[str, int | str]:
    parameters: dict[str, int | str] = {}
    for match in _PARAMETER.finditer(text):
        name, integer, string = match.groups()
        if name in parameters:
            raise SignatureMalformedError(f"The signature has the parameter {name!r} twice.")
        parameters[name] = int(integer) if integer is not None else re.sub(r"\\(.)", r"\1", string[1:-1])
    return parameters


def _key_id_of(found: _SignatureInput) -> str:
    key_id = found.text("keyid")
    try:
        digest_parse(key_id)
    except DigestMalformedError as error:
        raise SignatureMalformedError(f"The signature's keyid is not a key id. {error}") from error
    return key_id


def _profile_check(found: _SignatureInput, *, has_body: bool) -> None:
    """Refuse a signature for another purpose, and one that leaves something out."""
    if found.text("alg") != ALGORITHM or found.text("tag") != TAG:
        raise SignatureMalformedError(f'The signature must have alg="{ALGORITHM}" and tag="{TAG}".')
    required = REQUIRED_ALWAYS + (REQUIRED_WITH_BODY if has_body else ())
    uncovered = [name for name in required if name not in found.components]
    if uncovered:
        raise SignatureIncompleteError(f"The signature must also cover {', '.join(uncovered)}.")


def _time_check(found: _SignatureInput, *, now: int, tolerance_seconds: int) -> int:
    created, expires = found.integer("created"), found.integer("expires")
    behind = now - created
    if abs(behind) > tolerance_seconds:
        raise SignatureStaleError(
            f"The request was signed {abs(behind)} seconds {'before' if behind > 0 else 'after'} our time, {now}; "
            f"at most {tolerance_seconds} are allowed. If it was sent just now, set the clock of the host that sent it."
        )
    if now > expires:
        raise SignatureStaleError(f"The request's signature expired {now - expires} seconds ago. Sign it again.")
    return created
