"""docs/API.md against the code: scopes and what they open, kinds, limits, the webhook's check. Its commands run in tests/acceptance/."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from jobs.descriptor.arrays import ARRAY_ITEMS_MAX
from jobs.services.uploads import UPLOADS_OPEN_PER_USER_MAX
from nexaportal.handling import BODY_BYTES_MAX
from nodes.services import JOIN_TOKENS_PER_OWNER_MAX
from people.models import Scope
from people.notifications import delivery
from people.notifications.models import NotificationKind
from people.services import TOKENS_PER_OWNER_MAX, token_mint
from people.transfers.services import A_DAY
from tests.factories.people import user_make

ROOT: Final = Path(__file__).parents[1]
TEXT: Final = (ROOT / "docs" / "API.md").read_text(encoding="utf-8")
OPENS: Final[dict[str, list[tuple[str, str]]]] = {
    scope: re.findall(r"`([A-Z]+) (/\S+)`", cell) for scope, cell in re.findall(r"^\| `(\w+:\w+)` \| (.*) \|$", TEXT, re.MULTILINE)
}
LINES: Final = [(scope, method, path) for scope, addresses in OPENS.items() for method, path in addresses]
IN_HEADERS: Final = {
    "Tus-Resumable": "1.0.0",
    "Upload-Length": "1",
    "Upload-Offset": "0",
    "Upload-Metadata": "digest c2hhMjU2OjI0ZmM3OGI5NzM0NDE2YTJkODE5YTk0OTg5ZGI3MGJkYWYwOWE4YjliOTY2OTk3ZTI1MDJiYTczMTAxOTk3YmE=",
}
"""What an upload says; the scope is looked at behind these."""


def section(title: str) -> str:
    """The text below a heading, up to the next one of its level or a higher one."""
    found = re.search(rf"^(#+) {title}\n", TEXT, re.MULTILINE)
    assert found is not None, title
    return re.split(rf"^#{{1,{len(found[1])}}} ", TEXT[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def scoped_addresses(resolver: URLResolver, route: str = "/") -> Iterator[tuple[str, str, str]]:
    """Scope, method and address of every view that names a scope."""
    for one in resolver.url_patterns:
        here = route + str(one.pattern)
        if isinstance(one, URLPattern):
            required = getattr(getattr(one.callback, "view_class", None), "required_scopes", {})
            yield from ((scope.value, method, re.sub(r"<[^>]*>", "<id>", here)) for method, scope in required.items() if scope)
        else:
            yield from scoped_addresses(one, here)


def test_every_scope_is_in_the_table() -> None:
    assert list(OPENS) == list(Scope.values)


def test_every_address_that_wants_a_scope_is_in_the_table_below_it() -> None:
    assert set(scoped_addresses(get_resolver())) <= set(LINES)


@pytest.mark.django_db
@pytest.mark.parametrize(("scope", "method", "path"), LINES)
def test_an_address_is_closed_to_a_token_with_all_scopes_but_its_own(scope: str, method: str, path: str) -> None:
    _, secret = token_mint(owner=user_make(), name="all but one", scopes=set(Scope.values) - {scope})
    address = path.replace("<id>", str(uuid.uuid4())).replace("<digest>", "sha256:" + "0" * 64)
    media_type = "application/offset+octet-stream" if method == "PATCH" else "application/json"
    body = {"PATCH": b"1", "POST": b"" if "uploads" in path else b"{}"}.get(method, b"")

    answer = Client().generic(method, address, body, media_type, headers={"Authorization": f"Bearer {secret}", **IN_HEADERS})

    assert answer.status_code == 403
    if method != "HEAD":
        assert {name: answer.json()[name] for name in ("code", "required_scope")} == {"code": "scope_missing", "required_scope": scope}


def test_codes_that_the_document_names_are_codes_of_the_protocol() -> None:
    known = set(re.findall(r"^\| `(\w+)` \| ", (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`(\w+_\w+)`", section("Limits") + section("Problems") + section("Repeating a request")))
    members = {"kept_bytes", "limit_bytes", "needed_micro", "balance_micro", "job_id"}
    assert named - members
    assert named - members <= known


def test_addresses_that_the_document_names_are_in_the_openapi_document() -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
    known = {re.sub(r"\{[^}]*\}", "<id>", path) for path in paths} | {"/api/v1/openapi.json"}
    named = {path.rstrip(".").replace("<digest>", "<id>") for path in re.findall(r"`(?:[A-Z]+ )?(/api/v1/[\w/<>.-]*[\w>])`", TEXT)}
    assert len(named) > 20
    assert named <= known


def test_limits_are_those_of_the_code_and_of_the_proxy() -> None:
    limits = dict(re.findall(r"^\| ([\w ]+) \| (.*?) \| ", section("Limits"), re.MULTILINE))
    assert limits["live API tokens of a person"] == str(TOKENS_PER_OWNER_MAX)
    assert limits["unused join tokens of a person"] == str(JOIN_TOKENS_PER_OWNER_MAX)
    assert limits["unfinished uploads of a person"] == str(UPLOADS_OPEN_PER_USER_MAX)
    assert limits["transfers of credits by a person in 24 hours"] == str(A_DAY)
    assert limits["jobs in one array"] == f"{ARRAY_ITEMS_MAX:,}"
    assert limits["one request"] == f"{BODY_BYTES_MAX // 2**20} MiB; less at most addresses"
    proxy = (ROOT / "infra" / "proxy" / "nginx.conf").read_text(encoding="utf-8")
    rate, burst = re.findall(r"zone=requests:10m rate=(\d+)r/s", proxy) + re.findall(r"zone=requests burst=(\d+)", proxy)
    assert limits["requests from one address"] == f"{rate} a second, {burst} more at once"
    assert re.findall(r"limit_conn connections (\d+);", proxy) == [limits["connections from one address"]]


def test_every_kind_of_notification_is_in_the_table() -> None:
    rows = re.findall(r"^\| (`.*?`) \|", section("Webhooks"), re.MULTILINE)
    assert [kind for row in rows[1:] for kind in re.findall(r"`([\w.]+)`", row)] == NotificationKind.values


def test_attempts_are_made_as_the_document_says() -> None:
    assert (delivery.ATTEMPTS_MAX, delivery.FAILURES_MAX, delivery.TIMEOUT_SECONDS) == (7, 20, 4.0)
    last = sum((delivery.FIRST_RETRY * 4**attempt for attempt in range(delivery.ATTEMPTS_MAX - 1)), start=0 * delivery.FIRST_RETRY)
    assert round(last.total_seconds() / 3600) == 11


class TestTheCheckOfAWebhook:
    """The document's Python, as it stands there, against what the portal signs."""

    SECRET: Final = "nexa_whs_" + "5" * 64
    BODY: Final = b'{"id": 7, "kind": "job.completed"}'
    AT: Final = 1_800_000_000

    def check(self, *, body: bytes = BODY, timestamp: str = str(AT), now: int = AT, secret: str = SECRET) -> Any:
        (source,) = re.findall(r"^```python\n(.*?)^```$", section("Webhooks"), re.DOTALL | re.MULTILINE)
        names: dict[str, Any] = {}
        exec(source, names)  # noqa: S102  the document's own words are what is tested
        signature = delivery.signature_of(secret=self.SECRET, timestamp=self.AT, body=self.BODY)
        headers = {"Nexa-Timestamp": timestamp, "Nexa-Signature": signature}
        return names["notification_of"](headers, body, secret, now=lambda: now)

    def test_takes_what_the_portal_signed(self) -> None:
        assert self.check() == json.loads(self.BODY)

    @pytest.mark.parametrize(
        "changed",
        [{"body": BODY + b" "}, {"timestamp": str(AT + 1)}, {"timestamp": "soon"}, {"secret": "nexa_whs_" + "6" * 64}, {"now": AT + 301}],
        ids=["body", "timestamp", "no timestamp", "secret", "old"],
    )
    def test_refuses_anything_else(self, changed: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="signed"):
            self.check(**changed)
