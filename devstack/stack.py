"""The coordinator's stack on one machine: PostgreSQL, Redis, web, the three workers with beat. Without hosts and without a job.

`Stack` starts real processes with the settings that an operator would give them; what is special is only where they keep things (one
folder) and that the services come from wheels. Used by `make up`, the demo and the acceptance tests.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import requests

from devstack.processes import Child, Supervisor
from nexaportal.embedded import EmbeddedServices, die_with_parent
from workers.protocol.keys import PrivateKey

CHECKOUT = Path(__file__).resolve().parent.parent
SERVER_BIN = CHECKOUT / ".venv" / "bin"
HOST_BIN = CHECKOUT / ".venv-host" / "bin"
START_TIMEOUT_SECONDS = 90.0
APPLICATION_ROLE = "nexapod_application"
VERIFY_ROLE = "nexapod_verify"
"""Database users of web, control and conclude, and of verify workers, as settings.py names them by default."""

Report = Callable[[str], None]


class StackError(RuntimeError):
    """The stack could not be prepared; the message holds what the failing command said."""


@dataclass(frozen=True)
class Seed:
    """Who is there at the start: one approved researcher, contributors, and the images that may run (name to image id)."""

    researcher: str = "rosalind"
    contributors: Sequence[str] = ("ada",)
    images: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Access:
    """API tokens of the seeded people."""

    researcher_token: str
    contributor_tokens: Mapping[str, str]


class Stack:
    """The processes of a coordinator. `start` returns when the portal answers and every worker is ready.

    `folder` (0700) holds keys, blobs, logs and node homes. Supervisor and services are given; whoever made them ends them.
    """

    def __init__(
        self,
        *,
        folder: Path,
        services: EmbeddedServices,
        supervisor: Supervisor,
        settings: Mapping[str, str] | None = None,
        app: str = "nexaportal",
    ) -> None:
        """`app`: the package of the processes' Celery app and of `asgi.application`."""
        self.folder = folder
        self.port = _port_ensure(folder / "port")
        self.origin = f"http://127.0.0.1:{self.port}"
        self._services = services
        self._supervisor = supervisor
        self._settings = dict(settings or {})
        self._app = app
        self.coordinator_key_id = ""

    def start(self, seed: Seed, *, report: Report) -> Access:
        """Starts everything, migrates, and seeds. Raises StackError, ProcessError or EmbeddedError; the caller then stops what runs."""
        report("starting PostgreSQL and Redis")
        self._services.start()
        key = _key_ensure(self.folder / "coordinator.key")
        self.coordinator_key_id = key.public.key_id
        report("migrating the database")
        access = self._prepare(seed)
        report("starting the portal and its workers")
        key_file = str(self.folder / "coordinator.key")
        application, verify = self._services.postgres.as_user(APPLICATION_ROLE).dsn, self._services.postgres.as_user(VERIFY_ROLE).dsn
        keyed = self._portal_settings(NEXA_COORDINATOR_KEY_FILE=key_file, NEXA_DATABASE_URL=application)
        keyless = self._portal_settings(NEXA_COORDINATOR_PUBLIC_KEY=key.public.to_base64(), NEXA_DATABASE_URL=application)
        checking = self._portal_settings(NEXA_COORDINATOR_PUBLIC_KEY=key.public.to_base64(), NEXA_DATABASE_URL=verify)
        web = self._start("web", [SERVER_BIN / "uvicorn", f"{self._app}.asgi:application", *self._uvicorn_options()], keyed, group="server")
        workers = [
            self._worker("control", keyless, "--pool=solo", "--beat", f"--schedule={self.folder / 'beat'}"),
            self._worker("verify", checking, "--pool=prefork", "--concurrency=1"),
            self._worker("conclude", keyed, "--pool=solo"),
        ]
        self._supervisor.wait_ready(web, self._portal_answers, timeout_seconds=START_TIMEOUT_SECONDS)
        for worker in workers:
            self._supervisor.wait_ready(worker, lambda one=worker: _says_ready(one), timeout_seconds=START_TIMEOUT_SECONDS)  # type: ignore[misc]
        return access

    def image_approve(self, name: str, image_id: str) -> None:
        """Approves an image that was built after the start."""
        self._manage("image_approve", name, "--image-id", image_id)

    def manage_settings(self) -> dict[str, str]:
        """What a management command wants to find in its environment. In the database it is the owner of the tables."""
        return self._portal_settings(NEXA_COORDINATOR_KEY_FILE=str(self.folder / "coordinator.key"))

    def _prepare(self, seed: Seed) -> Access:
        """Migrates and seeds in one process; the secrets come back through a file that only we can read."""
        wanted = self.folder / "seed.json"
        found = self.folder / "access.json"
        wanted.write_text(json.dumps({"researcher": seed.researcher, "contributors": list(seed.contributors), "images": dict(seed.images)}))
        self._manage("stack_prepare", str(wanted), str(found))
        document = json.loads(found.read_text())
        found.unlink()
        return Access(document["researcher_token"], document["contributor_tokens"])

    def _manage(self, *arguments: str) -> None:
        """Runs a management command to its end."""
        done = subprocess.run(
            [sys.executable, CHECKOUT / "manage.py", *arguments],
            cwd=CHECKOUT,
            env=_environment(self.manage_settings()),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=die_with_parent(15),
        )
        if done.returncode:
            raise StackError(f"manage.py {arguments[0]} ended with {done.returncode}:\n{done.stderr.strip()[-2000:]}")

    def _worker(self, queue: str, settings: Mapping[str, str], *options: str) -> Child:
        argv: list[str | Path] = [
            SERVER_BIN / "celery",
            "-A",
            self._app,
            "worker",
            "-Q",
            queue,
            "-n",
            f"{queue}@%h",
            "--loglevel=INFO",
            "--without-mingle",
            "--without-gossip",
            *options,
        ]
        return self._start(queue, argv, settings, group="server")

    def _start(self, name: str, argv: Sequence[str | Path], settings: Mapping[str, str], *, group: str) -> Child:
        log = self.folder / "logs" / f"{name}.log"
        command = [str(part) for part in argv]
        return self._supervisor.start(name, command, env=_environment(settings), log_path=log, cwd=CHECKOUT, group=group)

    def _uvicorn_options(self) -> list[str]:
        return ["--host", "127.0.0.1", "--port", str(self.port), "--lifespan", "off", "--no-access-log", "--timeout-graceful-shutdown", "2"]

    def _portal_settings(self, **settings: str) -> dict[str, str]:
        """The settings of one process. In the database it is the owner unless told otherwise."""
        return {
            "NEXA_ROLE": "server",
            "DJANGO_SETTINGS_MODULE": "nexaportal.settings",
            "NEXA_SECRET_KEY_FILE": str(_secret_ensure(self.folder / "django.secret")),
            "NEXA_ORIGIN": self.origin,
            "NEXA_DATABASE_URL": self._services.postgres_dsn,
            "NEXA_REDIS_URL": self._services.redis_url,
            "NEXA_BROKER_URL": self._services.redis.celery_url(),
            "NEXA_STATIC_ROOT": str(_folder_ensure(self.folder / "static")),
            "NEXA_BLOB_ROOT": str(self.folder / "blobs"),
            "NEXA_LOG_ROOT": str(self.folder / "log-tiles"),
            "NEXA_EMAIL_FOLDER": str(_folder_ensure(self.folder / "mail")),
            **self._settings,
            **settings,
        }

    def _portal_answers(self) -> bool:
        try:
            return requests.get(f"{self.origin}/status", timeout=5).ok
        except requests.RequestException:
            return False


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of one process: nothing of ours but what it needs."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", **settings}


def _says_ready(worker: Child) -> bool:
    """Celery logs `<name> ready.` when it consumes."""
    return " ready." in worker.log_path.read_text(errors="replace")


def _port_ensure(path: Path) -> int:
    """A port of the loopback interface that nothing listens on now; the same as in earlier runs in this folder.

    Hosts and logins know the portal by its address, and the ledger is named after it. Raises StackError if another program has the port.
    """
    kept = path.read_text() if path.exists() else ""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the run before may linger
        try:
            probe.bind(("127.0.0.1", int(kept or 0)))
        except OSError as error:
            raise StackError(
                f"Port {kept} of 127.0.0.1, where this portal was before, is taken: end what listens there. Or remove {path.parent} "
                "and its database: at another address hosts would have to join anew, and the ledger would have another name."
            ) from error
        port: int = probe.getsockname()[1]
    path.write_text(str(port))
    return port


def _key_ensure(path: Path) -> PrivateKey:
    """The coordinator's key, made on first use, readable by us only."""
    if not path.exists():
        _secret_write(path, base64.b64encode(PrivateKey.generate().raw).decode())
    return PrivateKey.from_raw(base64.b64decode(path.read_text()))


def _folder_ensure(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def _secret_ensure(path: Path) -> Path:
    if not path.exists():
        _secret_write(path, secrets.token_urlsafe(48))
    return path


def _secret_write(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
