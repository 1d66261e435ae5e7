"""Schemathesis over the OpenAPI document of jobs: whatever a caller sends, the portal answers, and never with a 5xx."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from nexaportal.wsgi import application
from tests.factories.jobs import funded_researcher_make
from tests.factories.people import token_header

_generator = SchemaGenerator()  # type: ignore[no-untyped-call]  # drf-spectacular is not typed
_document = _generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]  # as above
schema = schemathesis.openapi.from_dict(_document).include(path_regex=r"^/(submit-job|status|api/v1/(jobs|status|submit-job|descriptor))")
schema.app = application


@pytest.mark.usefixtures("own_database")  # the WSGI handler closes connections: real commits
@schema.parametrize()
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_makes_a_server_error(case: Any) -> None:
    headers = token_header(funded_researcher_make())
    case.call_and_validate(base_url="http://testserver", headers=headers, checks=[not_a_server_error])
