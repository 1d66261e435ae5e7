"""Errors as problem details (RFC 9457): one mapping, for DRF views, plain views and async views.

1. The caller's fault (`ProblemError`) carries its own code, status and words.
2. Untrusted bytes (`VerificationError`) keep their code, with the status that `workers.protocol.problems` gives them.
3. What Django and DRF raise gets a code of this file. Their words are shown only where they are about the request.
4. A database that can't be reached is ours, and passing: 503 `temporarily_unavailable`, with Retry-After.
5. Anything else is a bug: 500 `internal_error`, without a word of what it was. The log has the traceback.
6. API addresses never answer an error in HTML, whoever made the answer. Pages for browsers keep theirs, but for 1 and 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import set_rollback

from nexaportal.middleware import TwoWayMiddleware
from workers.protocol.errors import VerificationError
from workers.protocol.problems import ProblemError, problem_document
from workers.protocol.validation import ERRORS_MAX, json_pointer, validation_errors

__all__ = [
    "ProblemMiddleware",
    "drf_exception_handler",
    "problem_of",
    "problem_response",
    "validation_errors",
]

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 5
_API_ADDRESSES: Final = ("/api/", "/register", "/submit-job", "/status")
_CODES_BY_STATUS: Final = {
    400: "request_malformed",
    401: "not_authenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "body_too_large",
    415: "media_type_unsupported",
    429: "throttled",
    500: "internal_error",
    503: "temporarily_unavailable",
}
_CHALLENGES: Final = 'Bearer realm="nexapod", Signature'


@dataclass(frozen=True)
class ProblemAnswer:
    """A problem document with its status and the headers that belong to it."""

    status: int
    document: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def problem_of(error: Exception) -> ProblemAnswer | None:
    """What to answer for `error`; None where it is a bug of ours and must be raised on."""
    match error:
        case ProblemError() | VerificationError():
            return _answer_of(problem_document(error))
        case drf.APIException():
            return _of_drf(error)
        case _:
            return _of_django(error)


def _of_django(error: Exception) -> ProblemAnswer | None:
    match error:
        case Http404():
            return _answer(404, _words_of(error) or "There is nothing at this address.")
        case PermissionDenied():
            return _answer(403, _words_of(error) or "This is not permitted to you.")
        case RequestDataTooBig():
            return _answer(413, "The body is larger than this address takes.")
        case SuspiciousOperation() | BadRequest() | MultiPartParserError():
            # Django's words name internals here: allowed hosts, file names, sessions.
            return _answer(400, "The request could not be read.")
        case OperationalError() | InterfaceError():
            retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
            return _answer(503, "The portal can't reach its database just now; try again soon.", headers=retry)
        case _:
            return None


def problem_response(error: ProblemError | VerificationError) -> JsonResponse:
    """The answer for a plain view that caught `error` itself. Raising it does the same: ProblemMiddleware answers."""
    answer = problem_of(error)
    if answer is None:  # neither of the two families is ever without an answer
        raise TypeError("expected a ProblemError or a VerificationError") from error
    return _json_response(answer)


def drf_exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: as above; None makes DRF raise on, and ProblemMiddleware then answers 500."""
    answer = problem_of(error)
    if answer is None:
        return None
    set_rollback()
    return Response(answer.document, status=answer.status, headers=answer.headers, content_type=CONTENT_TYPE)


class ProblemMiddleware(TwoWayMiddleware):
    """Answers what plain and async views raise, and turns HTML errors at API addresses into problem documents.

    It sees only what lies inside of it: it stands first in MIDDLEWARE, so that a refusal by any other is covered too.
    """

    def _call(self, request: HttpRequest) -> HttpResponseBase:
        return _finished(request, self._get_response(request))

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        return _finished(request, await self._get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not (is_api_address(request.path_info) or isinstance(exception, ProblemError | VerificationError)):
            return None
        answer = problem_of(exception)
        return None if answer is None else _json_response(answer)


def is_api_address(path: str) -> bool:
    """Whether programs, rather than browsers, speak to `path`."""
    return path.startswith(_API_ADDRESSES[0]) or path.removesuffix("/") in _API_ADDRESSES[1:]


def _finished(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """`response`, or a problem document in its place if it is an error in HTML at an API address."""
    if response.status_code < 400 or response.streaming or not is_api_address(request.path_info):
        return response
    if not response.headers.get("Content-Type", "text/html").startswith("text/html"):
        return response
    replacement = _json_response(_answer(response.status_code, _DETAILS.get(response.status_code, "")))
    for name, value in response.headers.items():
        if name not in ("Content-Type", "Content-Length"):
            replacement.headers[name] = value
    replacement.cookies = response.cookies
    return replacement


_DETAILS: Final = {
    400: "The request could not be read.",
    403: "This is not permitted to you.",
    404: "There is nothing at this address; /api/v1/openapi.json lists those that there are.",
    405: "This address doesn't take this method; the Allow field lists those that it takes.",
    500: "Something is broken in the portal. The request changed nothing that it didn't say; try again later.",
}


def _of_drf(error: drf.APIException) -> ProblemAnswer:
    """An error of DRF, with our code for it."""
    headers = {}
    if error_wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(error_wait) + 1)
    match error:
        case drf.ValidationError():
            faults = _faults_of(error.get_full_details())
            first = faults[0] if faults else {"path": "", "message": "not valid"}
            detail = f"{len(faults)} of the values sent won't do; the first, at {first['path'] or 'the whole'!r}: "
            return _answer(400, detail + first["message"], code="request_invalid", errors=faults)
        case drf.ParseError():
            return _answer(400, str(error.detail), code="json_malformed")
        case _:
            return _answer(error.status_code, str(error.detail), headers=headers)


def _faults_of(details: Any, location: tuple[int | str, ...] = ()) -> list[dict[str, str]]:
    """DRF's nested details as `{path, code, message}` with JSON pointers, at most ERRORS_MAX."""
    found: list[dict[str, str]] = []
    if isinstance(details, dict) and set(details) == {"message", "code"} and isinstance(details["message"], str):
        found.append({"path": json_pointer(location), "code": str(details["code"]), "message": details["message"]})
    elif isinstance(details, dict):
        for name, inner in details.items():
            found += _faults_of(inner, location if name == "non_field_errors" else (*location, name))
    elif isinstance(details, list):
        for index, inner in enumerate(details):
            # A list of messages belongs to one value; a list of dictionaries of them to the items of a list.
            is_message = isinstance(inner, dict) and set(inner) == {"message", "code"}
            found += _faults_of(inner, location if is_message else (*location, index))
    return found[:ERRORS_MAX]


def _words_of(error: Exception) -> str:
    """What we raised it with, if that was one sentence; Django's own Http404 details name URL patterns."""
    words = error.args[0] if len(error.args) == 1 else ""
    return words if isinstance(words, str) else ""


def _answer(status: int, detail: str, *, code: str | None = None, headers: dict[str, str] | None = None, **extra: Any) -> ProblemAnswer:
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code or _CODES_BY_STATUS.get(status, "request_refused" if status < 500 else "internal_error"),
        "detail": detail,
        **extra,
    }
    return _answer_of(document, headers)


def _answer_of(document: dict[str, Any], headers: dict[str, str] | None = None) -> ProblemAnswer:
    challenge = {"WWW-Authenticate": _CHALLENGES} if document["status"] == 401 else {}
    return ProblemAnswer(document["status"], document, {**challenge, **(headers or {})})


def _json_response(answer: ProblemAnswer) -> JsonResponse:
    return JsonResponse(answer.document, status=answer.status, content_type=CONTENT_TYPE, headers=answer.headers)
