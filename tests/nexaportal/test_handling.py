"""Three ways through the portal: a page in one thread, a host's request in none; and the answers are those of Django's own handler."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin
from django.views.decorators.csrf import csrf_exempt

from devstack.stack import CHECKOUT
from jobs.views.submission import PLAIN_FILE_BYTES_MAX
from nexaportal import handling
from nexaportal.handling import BODY_BYTES_MAX, PortalHandler
from workers.protocol.messages.delivery import RECEIPTS_BYTES_MAX, UPLOAD_CHUNK_BYTES_MAX

SEEN: list[tuple[str, int]] = []
RECORDER = "tests.nexaportal.test_handling.Recorder"


class Recorder(MiddlewareMixin):
    """Says in which thread each half of it runs."""

    def process_request(self, request: HttpRequest) -> None:
        SEEN.append(("request", threading.get_ident()))

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        SEEN.append(("response", threading.get_ident()))
        return response


def _answer(request: HttpRequest) -> HttpResponse:
    SEEN.append(("view", threading.get_ident()))
    return HttpResponse("with a session" if hasattr(request, "session") else "without")


async def waiting(request: HttpRequest) -> HttpResponse:
    return _answer(request)


@csrf_exempt
async def cookieless(request: HttpRequest) -> HttpResponse:
    return _answer(request)


@csrf_exempt
async def measuring(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.read())))


@csrf_exempt
async def broken(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("a fault")


urlpatterns = [
    path("page", _answer),
    path("waiting", waiting),
    path("cookieless", cookieless),
    path("measuring", measuring),
    path("api/v1/broken", broken),
]


@pytest.fixture
def recorded() -> Iterator[None]:
    SEEN.clear()
    with override_settings(
        ROOT_URLCONF=__name__,
        MIDDLEWARE=[RECORDER, "django.contrib.sessions.middleware.SessionMiddleware"],
        NEXA_COOKIELESS_MIDDLEWARE=["nexaportal.problems.ProblemMiddleware", RECORDER],
    ):
        yield


async def _asked(
    handler: ASGIHandler, address: str, method: str = "GET", body: Sequence[bytes] = (b"",)
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers by name, body) of the answer to a request whose body comes in these pieces."""
    scope = {
        "type": "http",
        "method": method,
        "path": address,
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
        "http_version": "1.1",
    }
    communicator: Any = ApplicationCommunicator(handler, scope)  # type: ignore[no-untyped-call]  # it has no types
    for number, piece in enumerate(body, start=1):
        await communicator.send_input({"type": "http.request", "body": piece, "more_body": number < len(body)})
    start: Any = await communicator.receive_output(timeout=10)
    answer, is_more = b"", True
    while is_more:
        part: Any = await communicator.receive_output(timeout=10)
        answer, is_more = answer + part["body"], part.get("more_body", False)
    await communicator.wait(timeout=10)
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, answer


@pytest.mark.usefixtures("recorded")
async def test_a_page_is_handled_in_one_thread_and_not_in_the_loops() -> None:
    assert (await _asked(PortalHandler(), "/page"))[2] == b"with a session"
    assert [what for what, _ in SEEN] == ["request", "view", "response"]
    assert len({thread for _, thread in SEEN}) == 1
    assert SEEN[0][1] != threading.get_ident()


@pytest.mark.usefixtures("recorded")
async def test_a_view_that_knows_no_cookies_and_its_middlewares_stay_on_the_loop() -> None:
    assert (await _asked(PortalHandler(), "/cookieless"))[2] == b"without"
    assert [(what, threading.get_ident()) for what in ("request", "view", "response")] == SEEN


@pytest.mark.usefixtures("recorded")
async def test_any_other_asynchronous_view_has_a_session_and_waits_on_the_loop() -> None:
    assert (await _asked(PortalHandler(), "/waiting"))[2] == b"with a session"
    assert dict(SEEN)["view"] == threading.get_ident()


@pytest.mark.usefixtures("recorded")
async def test_what_is_not_there_is_not_found() -> None:
    assert (await _asked(PortalHandler(), "/nowhere"))[0] == 404


@pytest.mark.usefixtures("recorded")
async def test_a_fault_on_the_loop_is_a_problem_without_a_word_of_it(caplog: pytest.LogCaptureFixture) -> None:
    status, headers, body = await _asked(PortalHandler(), "/api/v1/broken")
    assert status == 500
    assert headers["Content-Type"] == "application/problem+json"
    assert b"a fault" not in body
    assert "a fault" in caplog.text


@pytest.mark.parametrize(
    ("method", "address"), [("GET", "/healthz"), ("POST", "/api/v1/exchange"), ("GET", "/docs/"), ("GET", "/no-such-page")]
)
async def test_answers_are_those_of_djangos_handler(method: str, address: str) -> None:
    ours, djangos = [await _asked(handler(), address, method) for handler in (PortalHandler, ASGIHandler)]
    assert ours[0] == djangos[0]
    varying = {"X-Request-Id", "Content-Security-Policy", "Content-Length", "Set-Cookie"}
    assert set(ours[1]) == set(djangos[1])
    assert {name: value for name, value in ours[1].items() if name not in varying} == {
        name: value for name, value in djangos[1].items() if name not in varying
    }


@pytest.mark.usefixtures("recorded")
async def test_a_body_may_have_so_many_bytes_and_no_more_whoever_sends_it() -> None:
    piece = b"x" * (BODY_BYTES_MAX // 4)
    assert (await _asked(PortalHandler(), "/measuring", "POST", [piece] * 4))[2] == str(BODY_BYTES_MAX).encode()
    status, headers, body = await _asked(PortalHandler(), "/measuring", "POST", [piece] * 4 + [b"x", b"never read"])
    assert (status, headers["Content-Type"]) == (413, "application/problem+json")
    assert json.loads(body)["limit_bytes"] == BODY_BYTES_MAX


async def test_a_body_that_takes_too_long_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handling, "BODY_SECONDS_MAX", 0.05)
    scope = {"type": "http", "method": "POST", "path": "/api/v1/exchange", "query_string": b"", "headers": [], "http_version": "1.1"}
    communicator: Any = ApplicationCommunicator(PortalHandler(), scope)  # type: ignore[no-untyped-call]  # it has no types
    await communicator.send_input({"type": "http.request", "body": b"x", "more_body": True})
    await communicator.wait(timeout=5)
    assert communicator.output_queue.empty(), "the server closes the connection"


def test_the_proxy_takes_as_much_as_the_portal() -> None:
    assert f"client_max_body_size {BODY_BYTES_MAX // 2**20}m;" in (CHECKOUT / "infra/proxy/nginx.conf").read_text()
    assert max(UPLOAD_CHUNK_BYTES_MAX, RECEIPTS_BYTES_MAX, PLAIN_FILE_BYTES_MAX + 2 * 2**20) <= BODY_BYTES_MAX
