"""How the API's documents describe a signed request."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from workers.protocol.http_signatures import (
    ALGORITHM,
    REQUIRED_ALWAYS,
    REQUIRED_WITH_BODY,
    TAG,
    TOLERANCE_SECONDS,
)

HTTP_SIGNATURE_NAME: Final = "httpSignature"
HTTP_SIGNATURE_SCHEME: Final[dict[str, Any]] = {
    "type": "apiKey",
    "in": "header",
    "name": "Signature",
    "description": (
        "HTTP Message Signatures (RFC 9421) by the node's Ed25519 key, with Signature-Input and, where there is a body, "
        "Content-Digest (RFC 9530). OpenAPI has no type for it; docs/PROTOCOL.md has the profile and golden vectors."
    ),
    "x-http-message-signatures": {
        "algorithm": ALGORITHM,
        "tag": TAG,
        "components": list(REQUIRED_ALWAYS),
        "components-with-body": list(REQUIRED_WITH_BODY),
        "parameters": ["created", "expires", "nonce", "keyid", "alg", "tag"],
        "tolerance-seconds": TOLERANCE_SECONDS,
    },
}


class HttpSignatureScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # untyped upstream
    """A request signed by a host."""

    target_class = "nodes.authentication.HttpSignatureAuthentication"
    name = HTTP_SIGNATURE_NAME

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return HTTP_SIGNATURE_SCHEME
