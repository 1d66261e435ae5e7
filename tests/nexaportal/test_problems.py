"""nexaportal/problems.py, through Django's whole stack: sync under WSGI, sync and async under ASGI."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from rest_framework import exceptions as drf
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from nexaportal.problems import is_api_address, problem_of, problem_response
from workers.protocol.errors import (
    ContentDigestMismatchError,
    JsonTooLargeError,
    KeyWrongError,
    ProofInvalidError,
    SignatureRetargetedError,
    SignatureStaleError,
)
from workers.protocol.problems import ProblemError


class TeapotError(ProblemError):
    code = "teapot"
    status = 418
    title = "Short and stout"


ERRORS: dict[str, Exception] = {
    "problem": TeapotError("No coffee here; ask for tea.", kettle="on"),
    "stale": SignatureStaleError("signed long ago"),
    "retargeted": SignatureRetargetedError("for another"),
    "key": KeyWrongError("other key"),
    "content-digest": ContentDigestMismatchError("other body"),
    "proof": ProofInvalidError("no proof"),
    "large": JsonTooLargeError("too many bytes"),
    "missing": Http404("You have no such thing."),
    "forbidden": PermissionDenied(),
    "suspicious": SuspiciousOperation("Invalid HTTP_HOST header: secret internals"),
    "bad": BadRequest("internals"),
    "big": RequestDataTooBig("internals"),
    "database": OperationalError("connection to server at 10.0.0.1 failed: password"),
    "bug": ZeroDivisionError("secret internals"),
}
EXPECTED = {
    "problem": (418, "teapot"),
    "stale": (401, "signature_stale"),
    "retargeted": (401, "signature_retargeted"),
    "key": (401, "key_wrong"),
    "content-digest": (401, "content_digest_mismatch"),
    "proof": (400, "proof_invalid"),
    "large": (413, "json_too_large"),
    "missing": (404, "not_found"),
    "forbidden": (403, "forbidden"),
    "suspicious": (400, "request_malformed"),
    "bad": (400, "request_malformed"),
    "big": (413, "body_too_large"),
    "database": (503, "temporarily_unavailable"),
    "bug": (500, "internal_error"),
}


def raise_sync(request: HttpRequest, name: str) -> HttpResponse:
    raise ERRORS[name]


async def raise_async(request: HttpRequest, name: str) -> HttpResponse:
    raise ERRORS[name]


@csrf_exempt
@require_POST
def post_only(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.POST.get("x", ""))


def teapot_page(request: HttpRequest) -> HttpResponse:
    return problem_response(TeapotError("No coffee here; ask for tea."))


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse([b"half"], status=416, content_type="text/html")


class Inner(serializers.Serializer[Any]):
    size = serializers.IntegerField(min_value=1)


class Outer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=4)
    parts = Inner(many=True)


class DrfView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]
    parser_classes = [JSONParser]

    def post(self, request: Request) -> Response:
        outer = Outer(data=request.data)
        outer.is_valid(raise_exception=True)
        return Response({})


class DrfRaisingView(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    def get(self, request: Request, name: str) -> Response:
        raise ERRORS[name]


urlpatterns = [
    path("api/sync/<name>", raise_sync),
    path("api/async/<name>", raise_async),
    path("api/drf/<name>", DrfRaisingView.as_view()),
    path("api/outer", DrfView.as_view()),
    path("api/post", post_only),
    path("api/teapot", teapot_page),
    path("api/streamed", streamed),
    path("page/<name>", raise_sync),
]
own_urls = override_settings(ROOT_URLCONF=__name__)


def problem_check(response: Any, status: int, code: str) -> dict[str, Any]:
    """The problem document in `response`, after the check that it is a whole one."""
    assert response.status_code == status, response.content
    assert response.headers["Content-Type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["title"]
    assert document["detail"]
    assert "internals" not in response.content.decode()
    assert "password" not in response.content.decode()
    return document


@own_urls
@pytest.mark.parametrize("kind", ["sync", "async", "drf"])
@pytest.mark.parametrize("name", list(ERRORS))
def test_error_at_an_api_address_becomes_its_problem(kind: str, name: str) -> None:
    response = Client(raise_request_exception=False).get(f"/api/{kind}/{name}")
    problem_check(response, *EXPECTED[name])


@own_urls
@pytest.mark.parametrize("kind", ["sync", "async", "drf"])
@pytest.mark.parametrize("name", list(ERRORS))
async def test_error_under_asgi_becomes_the_same_problem(kind: str, name: str) -> None:
    response = await AsyncClient(raise_request_exception=False).get(f"/api/{kind}/{name}")
    problem_check(response, *EXPECTED[name])


@own_urls
def test_problem_keeps_its_words_and_extension_members() -> None:
    document = problem_check(Client().get("/api/sync/problem"), 418, "teapot")
    assert document["detail"] == "No coffee here; ask for tea."
    assert document["title"] == "Short and stout"
    assert document["kettle"] == "on"


@own_urls
def test_problem_response_answers_as_raising_does() -> None:
    problem_check(Client().get("/api/teapot"), 418, "teapot")


@own_urls
def test_401_names_both_ways_in() -> None:
    response = Client().get("/api/sync/stale")
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="nexapod", Signature'


@own_urls
def test_unreachable_database_says_when_to_come_back() -> None:
    assert Client(raise_request_exception=False).get("/api/sync/database").headers["Retry-After"] == "5"


@own_urls
def test_unknown_api_address_is_a_problem() -> None:
    problem_check(Client().get("/api/nowhere"), 404, "not_found")


@own_urls
def test_foreign_host_name_is_a_problem_though_another_middleware_refuses_it() -> None:
    problem_check(Client().get("/api/teapot", headers={"Host": "evil.example"}), 400, "request_malformed")


@own_urls
def test_method_not_taken_is_a_problem_that_lists_methods() -> None:
    for address, methods in (("/api/post", "POST"), ("/api/outer", "POST, OPTIONS")):
        response = Client().get(address)
        problem_check(response, 405, "method_not_allowed")
        assert response.headers["Allow"] == methods


@own_urls
def test_broken_multipart_body_is_a_400() -> None:
    response = Client(raise_request_exception=False).post("/api/post", data=b"--x\r\nnonsense", content_type="multipart/form-data")
    problem_check(response, 400, "request_malformed")


@own_urls
def test_drf_validation_lists_every_fault_with_a_json_pointer() -> None:
    body = {"name": "too long", "parts": [{"size": 1}, {"size": 0}, {}]}
    response = Client().post("/api/outer", data=body, content_type="application/json")
    document = problem_check(response, 400, "request_invalid")
    assert [(fault["path"], fault["code"]) for fault in document["errors"]] == [
        ("/name", "max_length"),
        ("/parts/1/size", "min_value"),
        ("/parts/2/size", "required"),
    ]


@own_urls
def test_drf_validation_of_another_type_points_at_the_whole() -> None:
    document = problem_check(Client().post("/api/outer", "[]", "application/json"), 400, "request_invalid")
    assert [fault["path"] for fault in document["errors"]] == [""]


@own_urls
@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "json_malformed"),
        (b"\xff", "application/json", 400, "json_malformed"),
        (b"<x/>", "application/xml", 415, "media_type_unsupported"),
        (b"{}", "a/b/c", 415, "media_type_unsupported"),
    ],
)
def test_drf_body_that_cannot_be_read(body: bytes, content_type: str, status: int, code: str) -> None:
    problem_check(Client().post("/api/outer", data=body, content_type=content_type), status, code)


def test_every_kind_of_drf_error_has_a_code() -> None:
    expected = {
        drf.NotAuthenticated(): "not_authenticated",
        drf.AuthenticationFailed(): "not_authenticated",
        drf.PermissionDenied(): "forbidden",
        drf.NotFound(): "not_found",
        drf.MethodNotAllowed("PUT"): "method_not_allowed",
        drf.NotAcceptable(): "not_acceptable",
        drf.UnsupportedMediaType("a/b"): "media_type_unsupported",
        drf.Throttled(wait=2.5): "throttled",
        drf.APIException(): "internal_error",
    }
    found = {error: answer.document["code"] for error in expected if (answer := problem_of(error))}
    assert found == expected


def test_throttled_says_when_to_come_back() -> None:
    answer = problem_of(drf.Throttled(wait=2.5))
    assert answer is not None
    assert answer.headers["Retry-After"] == "4"


def test_bug_is_nobodys_answer() -> None:
    assert problem_of(ZeroDivisionError()) is None


@own_urls
def test_page_for_browsers_keeps_html() -> None:
    response = Client().get("/page/missing")
    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("text/html")


@own_urls
def test_page_for_browsers_still_answers_a_problem() -> None:
    problem_check(Client().get("/page/problem"), 418, "teapot")


@own_urls
def test_streamed_answer_is_left_alone() -> None:
    response: Any = Client().get("/api/streamed")
    assert response.streaming
    assert response.getvalue() == b"half"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/api/v1/me", True),
        ("/register", True),
        ("/register/", True),
        ("/submit-job", True),
        ("/status", True),
        ("/statuses", False),
        ("/accounts/login/", False),
        ("/", False),
    ],
)
def test_api_addresses(address: str, expected: bool) -> None:
    assert is_api_address(address) is expected
