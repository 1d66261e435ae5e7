"""Schemathesis over the whole OpenAPI document: whatever anybody sends, with whatever token, the portal answers, and never with a 5xx.

In this process, through WSGI. Requests of hosts are signed, and schemathesis can't sign: what it reaches there is what a stranger reaches.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import schemathesis
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from nexaportal.wsgi import application
from tests.factories.jobs import funded_researcher_make
from tests.factories.people import moderator_make, token_header, user_make

EXAMPLES_PER_OPERATION = 4


@schemathesis.serializer("application/offset+octet-stream")
def _chunk_serialize(_: Any, value: Any) -> bytes:
    """A chunk of an upload (tus), or whatever was made in its place."""
    return value if isinstance(value, bytes) else str(value).encode()


_generator = SchemaGenerator()  # type: ignore[no-untyped-call]  # drf-spectacular is not typed
_document = _generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # as above
schema = schemathesis.openapi.from_dict(_document)
schema.app = application

ROLES: dict[str, Callable[[], dict[str, str]]] = {
    "nobody": dict,
    "contributor": lambda: token_header(user_make()),
    "researcher": lambda: token_header(funded_researcher_make()),
    "moderator": lambda: token_header(moderator_make()),
}


def test_document_covers_hosts_people_and_auditors() -> None:
    """An empty or partial document would make the test below say nothing."""
    paths = set(_document["paths"])
    assert {"/status", "/register", "/api/v1/exchange", "/api/v1/jobs", "/api/v1/ledger/checkpoint", "/api/v1/account"} <= paths


@schema.parametrize()
@settings(max_examples=EXAMPLES_PER_OPERATION, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
def test_no_request_of_any_role_makes_a_server_error(case: Any, own_database: str) -> None:  # own: the WSGI handler closes connections
    headers = next(_headers_in_turn(own_database))
    case.call_and_validate(base_url="http://testserver", headers=headers, checks=[not_a_server_error])


@functools.cache
def _headers_in_turn(_database: str) -> Iterator[dict[str, str]]:
    """One role after the other, each with a token in this database: schemathesis sends dozens of requests to each address."""
    return itertools.cycle([make() for make in ROLES.values()])
