"""compose.yaml as a text: what must hold of every service, held against the file. `make compose-demo` runs it."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from nexaportal.secret_files import RANDOM_FILES, secret_files_make

ROOT: Final = Path(__file__).parents[1]
TEXT: Final = (ROOT / "compose.yaml").read_text()
COMPOSE: Final[dict[str, Any]] = yaml.safe_load(TEXT)
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
LASTING: Final = sorted(set(SERVICES) - {"init", "manage", "migrate"})
PORTAL: Final = ("web", "control", "verify", "conclude", "beat")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_confined_and_limited_and_its_logs_end(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    if name not in {"init", "manage"}:  # they run for a moment, at somebody's hand
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


def test_only_the_one_that_gives_files_to_their_readers_is_root_and_it_has_no_network() -> None:
    assert {name for name, service in SERVICES.items() if service["user"] != "10001:10001"} == {"init"}
    assert {name for name, service in SERVICES.items() if "cap_add" in service} == {"init"}
    assert SERVICES["init"]["network_mode"] == "none"


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_restarted_and_asked_for_its_health(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    if name != "host":  # its image has one
        assert SERVICES[name]["healthcheck"]["test"]


def test_webs_check_asks_under_the_portals_name_and_believes_200_only() -> None:
    program, *options, script = SERVICES["web"]["healthcheck"]["test"][1:]

    def is_healthy(port: int) -> bool:
        command = [program, *options, script.replace("$$", "$").replace("/8000;", f"/{port};")]
        return (
            subprocess.run(command, env={**os.environ, "NEXA_ORIGIN": "https://nexapod.test:8443"}, check=False, timeout=60).returncode == 0
        )

    for status, healthy in ((200, True), (503, False)):
        with served(status) as (port, names):
            assert is_healthy(port) is healthy
            assert names == ["nexapod.test"]
    assert not is_healthy(port), "nothing listens there any more"


def test_neither_the_proxy_nor_a_host_reaches_the_database_and_the_database_reaches_nobody() -> None:
    inside = {name for name, service in SERVICES.items() if "data" in service.get("networks", [])}
    assert inside == {*PORTAL, "database", "redis", "migrate", "manage"}
    assert COMPOSE["networks"]["data"]["internal"] is True
    assert SERVICES["database"]["networks"] == SERVICES["redis"]["networks"] == SERVICES["verify"]["networks"] == ["data"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]


def test_each_service_is_shown_the_secrets_that_it_needs_and_no_others() -> None:
    shown = {name: set(service.get("secrets", [])) for name, service in SERVICES.items()}
    assert {name for name in shown if "coordinator.key" in shown[name]} == {"web", "conclude", "manage"}
    assert {name for name in shown if "database-owner-password" in shown[name]} == {"database", "migrate", "manage"}
    assert {name for name in shown if "secret-key" in shown[name]} == {"web", "control", "conclude", "migrate", "manage"}
    assert shown["verify"] == {"secret-key-keyless", "database-verify-password", "redis-url", "coordinator.pub"}
    assert shown["beat"] == {"secret-key-keyless", "redis-url", "coordinator.pub"}
    assert shown["proxy"] == shown["host"] == shown["init"] == set()


def test_each_process_connects_to_the_database_as_the_user_of_its_role() -> None:
    users = {name: SERVICES[name]["environment"]["NEXA_DATABASE_URL"] for name in (*PORTAL, "migrate", "manage")}
    assert {name: url.removeprefix("postgresql://").partition("@")[0] for name, url in users.items()} == {
        "web": "nexapod_application",
        "control": "nexapod_application",
        "conclude": "nexapod_application",
        "verify": "nexapod_verify",
        "beat": "nobody",
        "migrate": "nexapod",
        "manage": "nexapod",
    }


def test_no_secret_has_a_default_and_each_is_a_file_that_init_makes(tmp_path: Path) -> None:
    made = secret_files_make(folder=tmp_path, hostname="nexapod.test")
    files = {name: secret["file"] for name, secret in COMPOSE["secrets"].items() if name not in {"ca", "pip", "acme-ca"}}
    assert set(files) == {name for name in made if not name.startswith("tls/")}
    assert all(path == f"${{NEXA_SECRETS:-./secrets}}/{name}" for name, path in files.items())
    named = [
        (service, name)
        for service in SERVICES
        for name in SERVICES[service].get("environment", {})
        if re.search("PASSWORD|SECRET|KEY|REDIS_URL", name) and not name.endswith("_FILE")
    ]
    assert named == []
    assert set(RANDOM_FILES) <= set(files)


def test_what_env_example_lists_is_what_the_file_asks_for_with_the_same_defaults() -> None:
    asked = {name: default or "" for name, default in re.findall(r"\$\{(NEXA_\w+)(?::-((?:[^${}]|\$\{\w+\})*))?(?::\?[^}]*)?\}", TEXT)}
    asked = {name: default for name, default in asked.items() if not name.endswith("_IMAGE")}
    example = dict(re.findall(r"^#?(NEXA_\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert set(example) == set(asked)
    said = {name: value.replace("<NEXA_HOSTNAME>", "${NEXA_HOSTNAME}") for name, value in example.items() if name != "NEXA_HOSTNAME"}
    assert said == {name: asked[name] for name in said}


def test_djangos_checks_for_deployment_find_nothing_in_the_web_services_configuration(tmp_path: Path) -> None:
    secret_files_make(folder=tmp_path, hostname="nexapod.test")
    variables = {"NEXA_HOSTNAME": "nexapod.test", "NEXA_EMAIL_HOST": "mail.nexapod.test"}
    environment = {
        name: _substituted(str(value), variables).replace("/run/secrets", str(tmp_path))
        for name, value in SERVICES["web"]["environment"].items()
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env={**environment, "PATH": os.environ["PATH"], "NEXA_DATABASE_POOL": "0", "NEXA_STATIC_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


def _substituted(text: str, variables: dict[str, str]) -> str:
    """As Compose puts values into a text: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`."""

    def value(match: re.Match[str]) -> str:
        return variables.get(match[1]) or match[2] or ""

    pattern = re.compile(r"\$\{(\w+)(?::-((?:[^${}])*)|:\?[^}]*)?\}")
    while (replaced := pattern.sub(value, text)) != text:
        text = replaced
    return text


@contextmanager
def served(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server that answers everything with `status`; its port, and the names under which it was asked."""
    names: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            names.append(self.headers["Host"])
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name that it is called with
            """Silent."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, names
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
