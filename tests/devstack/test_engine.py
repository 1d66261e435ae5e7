"""Finding an engine: the real one of this machine, and servers on real sockets that answer as other engines do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

import pytest

from devstack.engine import EngineUnavailableError, candidate_urls, engine_ensure, engine_probe

DOCKER_VERSION = {"Version": "27.0.1", "ApiVersion": "1.46", "MinAPIVersion": "1.24", "Components": [{"Name": "Engine"}]}
PODMAN_VERSION = {"Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24", "Components": [{"Name": "Podman Engine"}]}
FULL_LIMITS = {"MemoryLimit": True, "PidsLimit": True, "CpuCfsQuota": True, "CgroupVersion": "2", "SecurityOptions": []}

# The docker SDK drops sockets unclosed when an answer or a connection fails; the garbage collector closes them.
pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")

Speak = Callable[[object, object], str]


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def engine_speaking(tmp_path: Path) -> Iterator[Speak]:
    """Starts a server that answers /version and /info with the given JSON (or bytes); returns its URL."""
    servers: list[_Server] = []

    def start(version: object, info: object) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # as engines do: the client closes

            def do_GET(self) -> None:
                answer: object = version if self.path.endswith("/version") else info
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the parent's name
                return

            def address_string(self) -> str:
                return "unix"

        path = tmp_path / f"engine-{len(servers)}.sock"
        server = _Server(str(path), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return f"unix://{path}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.docker
def test_engine_of_this_machine_is_found_and_answers() -> None:
    lines: list[str] = []
    handle = engine_ensure(report=lines.append)
    client = handle.client()
    try:
        assert client.ping()
    finally:
        client.close()
    assert handle.version in str(handle)
    assert not handle.started_by_us
    assert lines == []


def test_docker_with_limits_is_taken(engine_speaking: Speak) -> None:
    url = engine_speaking(DOCKER_VERSION, FULL_LIMITS)
    handle = engine_ensure(report=print, environ={"DOCKER_HOST": url})
    assert (handle.name, handle.version, handle.base_url, handle.started_by_us) == ("Docker", "27.0.1", url, False)


def test_rootless_podman_under_cgroup_v2_is_taken_by_its_name(engine_speaking: Speak) -> None:
    url = engine_speaking(PODMAN_VERSION, FULL_LIMITS | {"SecurityOptions": ["name=rootless"]})
    handle = engine_probe(url)
    assert handle
    assert handle.name == "Podman"


def test_rootless_podman_under_cgroup_v1_is_refused_although_it_claims_limits(engine_speaking: Speak) -> None:
    url = engine_speaking(PODMAN_VERSION, FULL_LIMITS | {"SecurityOptions": ["name=rootless"], "CgroupVersion": "1"})
    with pytest.raises(EngineUnavailableError, match="silently ignores memory") as caught:
        engine_ensure(report=print, environ={"DOCKER_HOST": url})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("limit", ["MemoryLimit", "PidsLimit", "CpuCfsQuota"])
def test_engine_that_lacks_a_limit_is_refused_and_the_limit_named(engine_speaking: Speak, limit: str) -> None:
    url = engine_speaking(DOCKER_VERSION, FULL_LIMITS | {limit: False})
    with pytest.raises(EngineUnavailableError, match=limit):
        engine_ensure(report=print, environ={"DOCKER_HOST": url})


@pytest.mark.parametrize(
    "answer",
    [b"", b"not JSON", b"[]", b"null", b"7", b'"x"', b'{"Components": 7}', b"\xff\xfe"],
)
def test_something_else_behind_the_socket_counts_as_no_engine(engine_speaking: Speak, answer: bytes) -> None:
    assert engine_probe(engine_speaking(answer, FULL_LIMITS)) is None
    assert engine_probe(engine_speaking(answer, answer)) is None


@pytest.mark.parametrize("url", ["unix:///no/such.sock", "nonsense", "tcp://127.0.0.1:1", "ssh://", "http://[", "tcp://x:y"])
def test_address_where_nothing_answers_counts_as_no_engine(url: str) -> None:
    assert engine_probe(url) is None


@pytest.mark.parametrize("answer", [b"", b"not JSON", b"[]", b"null", b'{"SecurityOptions": 7}'])
def test_engine_whose_info_cannot_be_read_counts_as_no_engine(engine_speaking: Speak, answer: bytes) -> None:
    assert engine_probe(engine_speaking(DOCKER_VERSION, answer)) is None


def test_docker_host_that_does_not_answer_is_named_and_nothing_is_installed() -> None:
    with pytest.raises(EngineUnavailableError, match="unset DOCKER_HOST") as caught:
        engine_ensure(report=print, environ={"DOCKER_HOST": "unix:///no/such.sock"})
    assert "unix:///no/such.sock" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_candidates_are_docker_host_alone_where_it_is_set() -> None:
    assert candidate_urls({"DOCKER_HOST": "tcp://engine:2375", "HOME": "/root"}) == ["tcp://engine:2375"]


def test_candidates_include_the_users_own_sockets_that_exist(tmp_path: Path) -> None:
    (tmp_path / "podman").mkdir()
    (tmp_path / "podman" / "podman.sock").touch()
    (tmp_path / ".docker" / "desktop").mkdir(parents=True)
    (tmp_path / ".docker" / "desktop" / "docker.sock").touch()
    urls = candidate_urls({"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)})
    assert urls[-2:] == [f"unix://{tmp_path}/podman/podman.sock", f"unix://{tmp_path}/.docker/desktop/docker.sock"]
