"""What the proxy answers itself: problems to programs, pages to people, each with what to do. Against a real nginx, in its image."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Final

import docker
import pytest

from nexaportal.problems import is_api_address
from tests.infra.edge import Answer, Edge, eventually

ROOT: Final = Path(__file__).parents[2]
TOO_LARGE: Final = {"Content-Length": str(2 * 2**30), "Expect": "100-continue"}

pytestmark = [pytest.mark.docker, pytest.mark.acceptance, pytest.mark.timeout(600), pytest.mark.xdist_group("proxy")]


def expect_problem(answer: Answer, *, status: int, code: str) -> None:
    """`answer` is a problem of this status, with a code that docs/PROTOCOL.md has with it."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    problem = json.loads(answer.text)
    assert set(problem) == {"type", "title", "status", "code", "detail"}
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"].endswith(".")
    table = re.search(r"<!-- codes: answers -->(.*?)<!-- end -->", (ROOT / "docs/PROTOCOL.md").read_text(), re.DOTALL)
    assert table is not None
    assert re.search(rf"^\| `{code}` \| (?:{status}|{status // 100}xx) \|", table[1], re.MULTILINE)


def expect_page(answer: Answer, *, status: int, says: str) -> None:
    """`answer` is a page of this status, whole in itself, and nothing may be added to it."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    assert says in answer.text
    assert f'<p class="muted">{status}</p>' in answer.text
    assert answer.headers["X-Request-Id"] in answer.text
    assert not re.search(r"<script|<link|<img|src=|url\(|https?://|@import| style=|\$", answer.text)
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy


def expect_both(
    edge: Edge, path: str, *, status: int, code: str, says: str, method: str = "GET", headers: dict[str, str] | None = None
) -> None:
    """The same refusal below /api/ and for a page, and no cache keeps either."""
    problem, page = (edge.ask(prefix + path, method=method, headers=headers) for prefix in ("/api/v1", ""))
    expect_problem(problem, status=status, code=code)
    expect_page(page, status=status, says=says)
    assert problem.headers["Cache-Control"] == page.headers["Cache-Control"] == "no-store"
    assert problem.headers.get("Retry-After") == page.headers.get("Retry-After")
    assert json.loads(problem.text)["detail"] in page.text


@pytest.mark.parametrize("status", [200, 400, 404, 413, 429, 500, 502, 503])
def test_answers_of_web_pass_as_they_are(edge: Edge, status: int) -> None:
    eventually(lambda: edge.ask("/200").status == 200, "web is there")
    answer = edge.ask(f"/api/v1/{status}")
    assert (answer.status, answer.text, answer.headers["Content-Type"]) == (status, f"web says {status}", "text/plain")


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(edge: Edge) -> None:
    expect_both(edge, "/jobs", method="POST", headers=TOO_LARGE, status=413, code="body_too_large", says="at most 12 MiB")


def test_header_fields_that_are_too_large_are_told_so(edge: Edge) -> None:
    expect_both(edge, "/jobs", headers={"Cookie": "a" * 20_000}, status=400, code="request_malformed", says="could not be read")


def test_an_address_that_is_too_long_is_told_so_in_a_page_since_nobody_read_it(edge: Edge) -> None:
    expect_page(edge.ask("/api/" + "a" * 20_000), status=414, says="The address is too long")


def test_a_method_that_the_proxy_does_not_pass_is_told_so(edge: Edge) -> None:
    expect_both(edge, "/jobs", method="TRACE", status=405, code="method_not_allowed", says="Not in this way")


def test_metrics_are_nowhere_to_strangers(edge: Edge) -> None:
    expect_page(edge.ask("/metrics"), status=404, says="There is nothing here")


def test_what_is_not_http_gets_a_page(edge: Edge) -> None:
    expect_page(edge.ask("/jobs", headers={"Host": "two words"}), status=400, says="could not be read")


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/", "/api/v1/exchange", "/apis/", "/register", "/register/", "/register/x", "/submit-job", "/status/", "/statuses"],
)
def test_programs_and_people_are_told_apart_as_the_portal_does(client: docker.DockerClient, edge: Edge, path: str) -> None:
    answer = edge.ask(path, method="POST", headers=TOO_LARGE)
    assert (answer.headers["Content-Type"] == "application/problem+json") == is_api_address(path)


def test_while_web_is_away_everybody_is_told_when_to_come_back_and_then_served_at_once(
    client: docker.DockerClient, proxy_image: str, tmp_path: Path
) -> None:
    with Edge(client, proxy_image, tmp_path) as edge:
        eventually(lambda: edge.ask("/200").status == 200, "web is there")
        edge.web.kill()
        eventually(lambda: edge.ask("/200").status == 503, "the proxy notices that web is away")
        expect_both(edge, "/jobs", status=503, code="temporarily_unavailable", says="The portal does not answer just now")
        assert edge.ask("/jobs").headers["Retry-After"] == "10"
        # A form that was sent: a page too, and asked for anew by GET.
        expect_page(edge.ask("/jobs", method="POST", body=b"a=b"), status=503, says="look first whether it arrived")
        edge.web.start()
        eventually(lambda: edge.ask("/200").status == 200, "web is back")


def test_beyond_the_limits_everybody_is_told_when_to_come_back(client: docker.DockerClient, proxy_image: str, tmp_path: Path) -> None:
    real = (ROOT / "infra/proxy/nginx.conf").read_text()
    small = real.replace("rate=200r/s", "rate=1r/m").replace("burst=400", "burst=2")
    assert small.count("rate=1r/m") == small.count("burst=2") == 1
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(small)
    configuration.chmod(0o444)
    with Edge(client, proxy_image, tmp_path / "secrets", configuration=configuration) as edge:
        eventually(lambda: edge.ask("/200").status == 429, "the limit is reached")
        expect_both(edge, "/jobs", status=429, code="throttled", says="More requests came from your network address")
        assert edge.ask("/jobs").headers["Retry-After"] == "5"


def test_the_page_has_the_colours_of_the_portal() -> None:
    tokens = dict.fromkeys(re.findall(r"--[\w-]+: #\w+;", (ROOT / "static/portal/tokens.css").read_text()))
    used = re.findall(r"--[\w-]+: #\w+;", (ROOT / "infra/proxy/answers.conf").read_text())
    assert len(used) == 14
    assert set(used) <= set(tokens)
