"""`make demo`: from nothing to a verified, paid result, with nothing staged.

The stack is the real one (devstack/stack.py), the hosts are plain Celery workers of three owners (devstack/hosts.py), the job is
examples/folding. What the table at the end says is read back from the portal and checked; the bundle is verified by a process that has
no Django. All data lives in a temporary folder and goes with the demo. Two things stay: images in the engine, so that a second run is
quick, and below `keep` the result's bundle, or after a failure the logs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from client.api import PortalApi
from client.submission import descriptor_load, inputs_upload
from devstack.engine import EngineHandle, engine_ensure
from devstack.following import JobLateError, credits_text, job_follow
from devstack.hosts import DemoHost, containers_remove, host_join, host_make, host_start
from devstack.images import base_image_ensure, workload_image_ensure
from devstack.outcome import Outcome, faults_of, outcome_table, payments_proved, replicas_text
from devstack.processes import Supervisor
from devstack.stack import CHECKOUT, HOST_BIN, Access, Seed, Stack
from nexaportal.embedded import EmbeddedServices
from workers.protocol.plurals import counted

OWNERS = ("ada", "emmy", "lise")
LEDGER_LIMIT_SECONDS = 30.0
VERIFY_LIMIT_SECONDS = 120.0


class DemoError(RuntimeError):
    """Something in the demo's outcome is not as it should be; the message lists what."""


@dataclass(frozen=True)
class Options:
    """What a run of the demo may be told. `example`: a folder with job.json, Dockerfile and inputs/."""

    example: Path = CHECKOUT / "examples" / "folding"
    keep: Path = CHECKOUT / "var" / "demo"
    limit_seconds: float = 900.0
    """How long the job may take from submission to conclusion."""


class Demo:
    """One run. Processes are the supervisor's, services and `folder` their makers' to end; `containers_remove` and `keep` are ours."""

    def __init__(self, *, options: Options, console: Console, folder: Path, services: EmbeddedServices, supervisor: Supervisor) -> None:
        self._options = options
        self._console = console
        self._folder = folder
        self._supervisor = supervisor
        self._started = time.monotonic()
        self._stack = Stack(folder=folder, services=services, supervisor=supervisor)
        self._engine: EngineHandle | None = None
        self._hosts: list[DemoHost] = []
        self._replicas: Sequence[Mapping[str, Any]] = ()

    @property
    def origin(self) -> str:
        """The portal's address."""
        return self._stack.origin

    def run(self) -> None:
        """The whole demo up to its table. Raises DemoError if anything in it is not as it should be."""
        self._engine = engine = engine_ensure(report=self._report)
        self._report(f"engine: {engine}")
        descriptor = descriptor_load(self._options.example / "job.json")
        images = self._images(engine, descriptor)
        access = self._stack.start(Seed(contributors=OWNERS, images=images), report=self._report)
        self._report(f"portal: {self.origin}")
        self._hosts_start(engine, access)
        api = PortalApi(self.origin, access.researcher_token)
        uploaded = inputs_upload(api, descriptor, self._options.example)
        job = api.job_submit(uploaded)
        submitted = time.monotonic()
        self._report(
            f"submitted {job['job_id']}: {counted(job['copies'], 'replica')}, quorum {job['quorum']}, "
            f"{credits_text(job['reserved_micro'])} reserved"
        )
        try:
            job = job_follow(
                api,
                str(job["id"]),
                console=self._console,
                report=self._report,
                limit_seconds=self._options.limit_seconds,
                on_poll=self._supervisor.expect_alive,
            )
        except JobLateError as error:
            self._replicas = api.job_replicas(str(job["id"]))
            raise DemoError(str(error)) from error
        times = f"set-up {submitted - self._started:.1f} s, submission to payment {time.monotonic() - submitted:.1f} s"
        self._conclude(api, job, access, times)
        if engine.started_by_us:
            self._report(f"{engine.name} was started for this demo and goes on running; end it as any daemon")

    def containers_remove(self) -> None:
        """Removes what the hosts could not: call it when they have ended."""
        if self._engine is None:
            return
        count = containers_remove(self._hosts, docker_host=self._engine.base_url)
        if count:
            self._report(f"removed {counted(count, 'container')} that hosts had left")

    def evidence(self) -> str:
        """For a demo that failed: the replicas, and the end of each log; all logs are copied below `keep`."""
        keep = self._options.keep / "logs"
        shutil.rmtree(keep, ignore_errors=True)
        if (self._folder / "logs").is_dir():
            shutil.copytree(self._folder / "logs", keep)
        parts = [replicas_text(self._replicas)] if self._replicas else []
        parts += [f"--- {child.name}, the end of its log\n{child.log_tail()}" for child in self._supervisor.children]
        parts.append(f"All logs: {_short(keep)}" if keep.is_dir() else "No process had been started.")
        return "\n".join(parts)

    def _images(self, engine: EngineHandle, descriptor: Mapping[str, Any]) -> dict[str, str]:
        """The workload's image, built or found; by the name that the descriptor gives it."""
        name = str(descriptor["docker_image"])
        client = engine.client()
        try:
            base = base_image_ensure(client, report=self._report)
            image_id = workload_image_ensure(
                client, context=self._options.example, tag=name, base=base, report=self._report, engine_url=engine.base_url
            )
        finally:
            client.close()
        self._report(f"image {name}: {image_id[:19]}…")
        return {name: image_id}

    def _hosts_start(self, engine: EngineHandle, access: Access) -> None:
        for owner in OWNERS:
            host = host_make(name=f"{owner}-host", owner=owner, folder=self._folder, docker_host=engine.base_url)
            self._hosts.append(host)
            api = PortalApi(self.origin, access.contributor_tokens[owner])
            host_join(host, api)
            node = api.nodes()[0]
            host_start(host, node["tier"], supervisor=self._supervisor, logs=self._folder / "logs")
            self._report(f"{host.name} of {owner} joined: queue {node['tier']}, key {node['key_id'][:15]}…")

    def _conclude(self, api: PortalApi, job: Mapping[str, Any], access: Access, times: str) -> None:
        """Reads everything back, shows it, and says what is not as it should be."""
        self._replicas = api.job_replicas(str(job["id"]))
        if job["state"] != "completed":
            raise DemoError(f"The job is {job['state']}: {job['failure_code']} {job['failure_message']}".rstrip())
        bundle = self._options.keep / "result.nexa.zip"
        self._bundle_when_proved(api, str(job["id"]), bundle)
        outcome = Outcome(
            job=job,
            replicas=self._replicas,
            balances={
                host.owner: int(PortalApi(self.origin, access.contributor_tokens[host.owner]).account()["balance_micro"])
                for host in self._hosts
            },
            ledger=api.status()["ledger"],
            owners={host.name: host.owner for host in self._hosts},
        )
        faults = faults_of(outcome)
        command = [_short(HOST_BIN / "nexa"), "verify", _short(bundle), "--coordinator", self._stack.coordinator_key_id]
        verified = subprocess.run(
            command,
            cwd=CHECKOUT,
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            capture_output=True,
            text=True,
            timeout=VERIFY_LIMIT_SECONDS,
            check=False,
        )
        if verified.returncode:
            faults.append(f"expected nexa verify to accept the bundle, found: {(verified.stdout + verified.stderr).strip()}")
        self._console.print()
        self._console.print(outcome_table(outcome, origin=self.origin, times=times))
        self._console.print("\nVerify it again, offline, at any time (from this folder):", highlight=False)
        self._console.print("  " + " ".join(command), soft_wrap=True, highlight=False, markup=False)
        self._console.print(verified.stdout.rstrip(), highlight=False, markup=False, soft_wrap=True)
        if faults:
            raise DemoError("\n".join(faults))

    def _bundle_when_proved(self, api: PortalApi, job_id: str, bundle: Path) -> None:
        """Downloads the bundle as soon as its payments are under a checkpoint."""
        bundle.parent.mkdir(parents=True, exist_ok=True)
        limit = time.monotonic() + LEDGER_LIMIT_SECONDS
        draft = self._folder / bundle.name
        while True:
            with draft.open("wb") as out:
                api.bundle_download(job_id, out)
            if payments_proved(draft):
                shutil.copyfile(draft, bundle)
                return
            if time.monotonic() > limit:
                raise DemoError(f"The payments are under no checkpoint after {LEDGER_LIMIT_SECONDS:g} s.")
            time.sleep(0.2)

    def _report(self, line: str) -> None:
        self._console.print(f"{time.monotonic() - self._started:7.1f} s  {line}", highlight=False, markup=False, soft_wrap=True)


def _short(path: Path) -> str:
    """A path as one types it in the checkout."""
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)
