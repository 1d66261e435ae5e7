"""Requests that are signed, rightly or by whatever parameters, for the tests of signatures."""

import re
from typing import Any

from workers.protocol.digests import content_digest_header
from workers.protocol.http_signatures import (
    REQUIRED_ALWAYS,
    REQUIRED_WITH_BODY,
    VerifiedRequest,
    request_sign,
    request_verify,
    signature_base,
)
from workers.protocol.keys import PrivateKey
from workers.protocol.strict_base64 import base64_encode

KEY = PrivateKey.from_raw(bytes(range(32)))
NOW = 1_800_000_000
NONCE = "bm9uY2Utbm9uY2Utbm9u"
BODY = b'{"free_slots":2}'
URL = "https://portal.example:8443/api/v1/exchange?wait=25&x=%20"
HEADERS = {"Content-Type": "application/json", "User-Agent": "nexa"}


def signed(**changes: Any) -> dict[str, str]:
    """The headers of a signed exchange request."""
    arguments: dict[str, Any] = {"method": "POST", "url": URL, "headers": HEADERS, "body": BODY, "key": KEY, "now": NOW}
    arguments |= {"nonce": NONCE} | changes
    return {**arguments["headers"], **request_sign(**arguments)}


def verified(headers: dict[str, str], **changes: Any) -> VerifiedRequest:
    arguments: dict[str, Any] = {
        "method": "POST",
        "authority": "portal.example:8443",
        "path": "/api/v1/exchange",
        "query": "wait=25&x=%20",
        "headers": headers,
        "body": BODY,
        "key": KEY.public,
        "now": NOW,
    }
    return request_verify(**(arguments | changes))


def resigned(params: str, **headers: str) -> dict[str, str]:
    """A request whose Signature-Input has these parameters, rightly signed over them."""
    values = {
        "@method": "POST",
        "@authority": "portal.example:8443",
        "@path": "/api/v1/exchange",
        "@query": "?wait=25&x=%20",
        "content-type": "application/json",
        "content-digest": content_digest_header(BODY),
        "user-agent": "nexa",
    } | headers
    components = re.findall(r'"([^"]*)"', params.partition(")")[0])
    signature = KEY.sign(signature_base(components, params, {name: values.get(name, "") for name in components}))
    fields = {name: value for name, value in values.items() if not name.startswith("@")}
    return fields | {"Signature-Input": f"s={params}", "Signature": f"s=:{base64_encode(signature)}:"}


COMPONENTS = [*REQUIRED_ALWAYS, *REQUIRED_WITH_BODY]
PARAMETERS = {
    "created": f"{NOW}",
    "expires": f"{NOW + 300}",
    "nonce": f'"{NONCE}"',
    "keyid": f'"{KEY.public.key_id}"',
    "alg": '"ed25519"',
    "tag": '"nexapod"',
}


def params_of(components: list[str], parameters: dict[str, str]) -> str:
    covered = " ".join(f'"{name}"' for name in components)
    return f"({covered})" + "".join(f";{name}={value}" for name, value in parameters.items())
