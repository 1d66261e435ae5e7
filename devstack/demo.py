"""`make demo`: from nothing to a verified, paid result, with nothing staged.

The stack is the real one (devstack/stack.py), the hosts are plain Celery workers of three owners (devstack/hosts.py), the job is
examples/folding. What the table at the end says is read back from the portal and checked; the bundle is verified by a process that has
no Django. All data lives in a temporary folder and goes with the demo; images stay in the engine, so a second run is quick.
"""

from __future__ import annotations

import json
import subprocess
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from client.api import PortalApi
from client.submission import descriptor_load, inputs_upload
from client.watching import job_watch
from devstack.engine import EngineHandle, engine_ensure
from devstack.hosts import DemoHost, host_join, host_make, host_start
from devstack.images import base_image_ensure, workload_image_ensure
from devstack.processes import Interrupts, Supervisor
from devstack.stack import CHECKOUT, HOST_BIN, Access, Seed, Stack
from nexaportal.embedded import EmbeddedServices

OWNERS = ("ada", "emmy", "lise")
EXAMPLE = CHECKOUT / "examples" / "folding"
JOB_LIMIT_SECONDS = 900.0
LEDGER_LIMIT_SECONDS = 30.0


class DemoError(RuntimeError):
    """Something in the demo's outcome is not as it should be; the message lists what."""


class Demo:
    """One run. Everything that it starts is the supervisor's, the services' or in `folder`; whoever made those ends them."""

    def __init__(
        self, *, console: Console, folder: Path, services: EmbeddedServices, supervisor: Supervisor, interrupts: Interrupts
    ) -> None:
        self._console = console
        self._folder = folder
        self._supervisor = supervisor
        self._interrupts = interrupts
        self._started = time.monotonic()
        self._stack = Stack(folder=folder, services=services, supervisor=supervisor)

    @property
    def origin(self) -> str:
        """The portal's address."""
        return self._stack.origin

    def run(self) -> None:
        """The whole demo up to its table. Raises DemoError if anything in it is not as it should be."""
        engine = engine_ensure(report=self._report)
        self._report(f"engine: {engine}")
        descriptor = descriptor_load(EXAMPLE / "job.json")
        images = self._images(engine, descriptor)
        access = self._stack.start(Seed(contributors=OWNERS, images=images), report=self._report)
        self._report(f"portal: {self.origin}")
        hosts = self._hosts(engine, access)
        api = PortalApi(self.origin, access.researcher_token)
        uploaded = inputs_upload(api, descriptor, EXAMPLE)
        job = api.job_submit(uploaded)
        self._report(f"submitted {job['job_id']} with {job['copies']} replicas, up to {_credits(job['reserved_micro'])} reserved")
        job = job_watch(api, str(job["id"]), self._console, limit_seconds=JOB_LIMIT_SECONDS)
        self._supervisor.expect_alive()
        self._conclude(api, job, hosts, access)
        if engine.started_by_us:
            self._report(f"{engine.name} was started for this demo and goes on running; end it as any daemon")

    def _images(self, engine: EngineHandle, descriptor: Mapping[str, Any]) -> dict[str, str]:
        """The workload's image, built or found; by the name that the descriptor gives it."""
        name = str(descriptor["docker_image"])
        client = engine.client()
        try:
            base = base_image_ensure(client, report=self._report)
            image_id = workload_image_ensure(client, context=EXAMPLE, tag=name, base=base, report=self._report, engine_url=engine.base_url)
        finally:
            client.close()
        self._report(f"image {name}: {image_id[:19]}…")
        return {name: image_id}

    def _hosts(self, engine: EngineHandle, access: Access) -> list[DemoHost]:
        hosts = [host_make(name=f"{owner}-host", owner=owner, folder=self._folder, docker_host=engine.base_url) for owner in OWNERS]
        for host in hosts:
            api = PortalApi(self.origin, access.contributor_tokens[host.owner])
            host_join(host, api)
            node = api.nodes()[0]
            self._report(f"{host.name} of {host.owner} joined: tier {node['tier']}, key {node['key_id'][7:15]}…")
            host_start(host, node["tier"], supervisor=self._supervisor, logs=self._folder / "logs")
        return hosts

    def _conclude(self, api: PortalApi, job: Mapping[str, Any], hosts: Sequence[DemoHost], access: Access) -> None:
        """Reads everything back, shows it, and says what is not as it should be."""
        faults: list[str] = []
        if job["state"] != "completed":
            raise DemoError(f"The job is {job['state']}: {job['failure_code']} {job['failure_message']}{self._log_tails(hosts)}")
        balances = {
            host.owner: int(PortalApi(self.origin, access.contributor_tokens[host.owner]).account()["balance_micro"]) for host in hosts
        }
        replicas = [replica for replica in api.job_replicas(str(job["id"])) if replica["result"]]
        accepted = [replica for replica in replicas if replica["state"] == "accepted"]
        nodes = {replica["node"] for replica in accepted}
        if len(accepted) != job["copies"] or len(nodes) != len(accepted):
            faults.append(f"expected {job['copies']} accepted replicas on as many nodes, found {len(accepted)} on {len(nodes)}")
        paid = sum(int(replica["result"]["paid_micro"]) for replica in accepted)
        if paid <= 0 or sum(balances.values()) != paid:
            faults.append(f"expected the owners' balances to be what was paid ({paid} µcr), found {sum(balances.values())} µcr")
        bundle = self._folder / "result.nexa.zip"
        ledger = self._bundle_when_proved(api, str(job["id"]), bundle)
        verify = [str(HOST_BIN / "nexa"), "verify", str(bundle), "--coordinator", self._stack.coordinator_key_id]
        verified = subprocess.run(verify, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False)
        if verified.returncode:
            faults.append(f"nexa verify refused the result: {(verified.stdout + verified.stderr).strip()}")
        self._table(job, replicas, balances, ledger, verify)
        self._console.print(verified.stdout.rstrip(), highlight=False, markup=False)
        if faults:
            raise DemoError("; ".join(faults))

    def _bundle_when_proved(self, api: PortalApi, job_id: str, bundle: Path) -> Mapping[str, Any]:
        """Downloads the bundle as soon as its payments are under a checkpoint; returns the public ledger figures."""
        limit = time.monotonic() + LEDGER_LIMIT_SECONDS
        while True:
            with bundle.open("wb") as out:
                api.bundle_download(job_id, out)
            if _payments_proved(bundle):
                ledger: Mapping[str, Any] = api.status()["ledger"]
                return ledger
            if time.monotonic() > limit:
                raise DemoError(f"The payments are under no checkpoint after {LEDGER_LIMIT_SECONDS:g} s.")
            time.sleep(0.2)

    def _table(
        self,
        job: Mapping[str, Any],
        replicas: Sequence[Mapping[str, Any]],
        balances: Mapping[str, int],
        ledger: Mapping[str, Any],
        verify: Sequence[str],
    ) -> None:
        table = Table(title=f"{job['job_id']}  ({time.monotonic() - self._started:.1f} s)", show_header=False, title_justify="left")
        verdict = job["verdict"]
        worst = verdict["worst"]
        table.add_row("job", f"{job['id']}, {job['state']}")
        agreement = f"{verdict['agreeing']} of {verdict['reported']} replicas agree (quorum {verdict['quorum']})"
        deviation = "no number differs" if worst is None else f"worst deviation {worst['difference']:.3g} of {worst['allowed']:.3g} allowed"
        table.add_row("verdict", f"{agreement}, {deviation}")
        for replica in replicas:
            result = replica["result"]
            canonical = ", canonical" if replica["id"] == job["canonical_replica"] else ""
            said = f"{replica['node']}: {replica['state']}{canonical}, {_credits(result['paid_micro'])}"
            table.add_row(f"replica {replica['id'][:8]}", f"{said}\n{result['result_digest']}")
        for owner, balance in balances.items():
            table.add_row(f"credits of {owner}", _credits(balance))
        table.add_row("ledger", f"{ledger['size']} entries, checkpoint {ledger['checkpoint']}")
        table.add_row("portal", self.origin)
        self._console.print(table)
        self._console.print("verify offline: " + " ".join(verify), soft_wrap=True, highlight=False, markup=False)

    def _log_tails(self, hosts: Sequence[DemoHost]) -> str:
        """What the hosts said last, for a demo that failed."""
        parts = [
            f"\n--- {child.name}\n{child.log_tail()}" for child in self._supervisor.children if child.name in {host.name for host in hosts}
        ]
        return "".join(parts)

    def _report(self, line: str) -> None:
        self._console.print(f"{time.monotonic() - self._started:7.1f} s  {line}", highlight=False, markup=False, soft_wrap=True)


def _payments_proved(bundle: Path) -> bool:
    with zipfile.ZipFile(bundle) as opened:
        index = json.loads(opened.read("bundle.json"))
    return all(replica["payment"] for replica in index["replicas"])


def _credits(micro: str | int) -> str:
    return f"{int(micro) / 1e6:.6f} credits"
