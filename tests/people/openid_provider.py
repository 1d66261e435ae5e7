"""An OpenID Connect provider on loopback: discovery, authorization code with PKCE, token, user info. One person is signed in with it."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID = "nexa"
CLIENT_SECRET = "known to both"


@dataclass
class OpenIdProvider:
    """`person`: the claims that it makes about who is signed in with it. `faults`: paths that answer 503."""

    person: dict[str, Any]
    origin: str = ""
    faults: set[str] = field(default_factory=set)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048))

    @property
    def providers(self) -> dict[str, Any]:
        """For SOCIALACCOUNT_PROVIDERS, as nexaportal.settings makes it of NEXA_OPENID_PROVIDERS."""
        app = {"provider_id": "lab", "name": "The Lab", "client_id": CLIENT_ID, "secret": CLIENT_SECRET}
        return {"openid_connect": {"OAUTH_PKCE_ENABLED": True, "APPS": [{**app, "settings": {"server_url": self.origin}}]}}

    def answer(self, path: str, query: dict[str, str], form: dict[str, str], authorization: str) -> tuple[int, Any]:
        """Status, and a document or where to go on."""
        if path in self.faults:
            return 503, {"error": "temporarily_unavailable"}
        match path:
            case "/.well-known/openid-configuration":
                return 200, self._configuration()
            case "/authorize":
                return self._authorize(query)
            case "/token":
                return self._token(form)
            case "/userinfo" if authorization.removeprefix("Bearer ") in self.tokens:
                return 200, self.person
            case _:
                return 404, {"error": "unknown"}

    def _configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.origin,
            "authorization_endpoint": f"{self.origin}/authorize",
            "token_endpoint": f"{self.origin}/token",
            "userinfo_endpoint": f"{self.origin}/userinfo",
            "jwks_uri": f"{self.origin}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def _authorize(self, query: dict[str, str]) -> tuple[int, Any]:
        """The person says yes at once."""
        if query["client_id"] != CLIENT_ID or query["response_type"] != "code" or query["code_challenge_method"] != "S256":
            return 400, {"error": "invalid_request"}
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return 302, f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"

    def _token(self, form: dict[str, str]) -> tuple[int, Any]:
        """Once for each code, to who asked for it: by its secret, its address and the word that it gave the digest of."""
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        is_theirs = (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        if asked is None or not is_theirs or form["redirect_uri"] != asked["redirect_uri"] or challenge != asked["code_challenge"]:
            return 400, {"error": "invalid_grant"}
        token, now = secrets.token_urlsafe(16), int(time.time())
        self.tokens.add(token)
        claims = {"iss": self.origin, "aud": CLIENT_ID, "iat": now, "exp": now + 60, **self.person}
        return 200, {"access_token": token, "token_type": "Bearer", "id_token": jwt.encode(claims, self.key, algorithm="RS256")}


@contextmanager
def openid_provider(person: dict[str, Any]) -> Iterator[OpenIdProvider]:
    """One that answers for as long as the block lasts."""
    provider = OpenIdProvider(person)

    class Handler(BaseHTTPRequestHandler):
        def _respond(self, body: bytes = b"") -> None:
            parts = urlsplit(self.path)
            form = dict(parse_qsl(body.decode()))
            status, answer = provider.answer(parts.path, dict(parse_qsl(parts.query)), form, self.headers.get("Authorization", ""))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", answer)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond(self.rfile.read(int(self.headers["Content-Length"])))

        def log_message(self, *_: object) -> None:
            """Nothing: what is asked shows in what comes of it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
