"""`make compose-demo`: what an operator does with compose.yaml, done and checked, and then each service killed while a job runs.

1. Builds the images (where no registry can be reached, on a base made of Debian packages) and prints their sizes.
2. On a machine that has nothing of it: `init`, `up`, `check --deploy`, an operator, a researcher and three contributors.
3. Three hosts join from containers of their own, reach the portal by its proxy, and run examples/folding, which is verified and paid.
4. More jobs, and while they run every service is killed in turn: the restart policies bring it back, and the jobs complete.
5. A backup; database and blobs are lost; the restore. Jobs, balances and bundles are as before, an outside audit is clean, and the same
   hosts complete another job.

All of it is one Compose project with its own volumes, on ports of the loopback interface. At the end it is gone, but for images.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from rich.console import Console

from client.api import PortalApi
from client.submission import descriptor_load, inputs_upload
from devstack.compose import UP, Compose, ComposeError
from devstack.compose_restore import SERVERS, backup_make, portal_lose, portal_restore
from devstack.demo import LEDGER_LIMIT_SECONDS, OWNERS, VERIFY_LIMIT_SECONDS, DemoError
from devstack.engine import EngineHandle, engine_ensure
from devstack.following import JobLateError, job_follow
from devstack.hosts import nodes_containers_remove
from devstack.images import base_image_ensure, ca_bundle, pip_configuration, workload_image_ensure
from devstack.outcome import Outcome, faults_of, outcome_table, payments_proved, replicas_text
from devstack.replaced_images import replaced_removed
from devstack.stack import CHECKOUT, HOST_BIN, Seed
from workers.portal import PortalUnreachableError

PROJECT: Final = "nexapod-compose-demo"
HOSTNAME: Final = "nexapod.test"
IMAGES: Final = {"web": "portal", "database": "database", "redis": "redis", "proxy": "proxy", "host": "host"}
KILLED: Final = ("web", "control", "verify", "conclude", "beat", "redis", "database", "proxy", f"host-{OWNERS[0]}")
BUILD_SECONDS: Final = 3600
UP_SECONDS: Final = 600
AWAY_SECONDS: Final = 180
"""How long a killed service may take to be healthy again, and the portal to answer."""
NODE_SETTINGS: Final = "[worker]\ndrain_seconds = 0\nreport_seconds = 2\n"

AnswerT = TypeVar("AnswerT")


class PatientApi(PortalApi):
    """The portal's API for somebody who kills its services: a question is asked again until somebody answers."""

    def job(self, job_id: str) -> dict[str, Any]:
        return self._patiently(lambda: PortalApi.job(self, job_id))

    def job_replicas(self, job_id: str) -> list[dict[str, Any]]:
        return self._patiently(lambda: PortalApi.job_replicas(self, job_id))

    def job_events(self, job_id: str, *, after: int = 0) -> list[dict[str, Any]]:
        return self._patiently(lambda: PortalApi.job_events(self, job_id, after=after))

    def job_submit(self, descriptor: Mapping[str, Any]) -> dict[str, Any]:
        return self._patiently(lambda: PortalApi.job_submit(self, descriptor))  # the label makes it idempotent

    def _patiently(self, ask: Callable[[], AnswerT]) -> AnswerT:
        limit = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                return ask()
            except PortalUnreachableError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.5)


class Killing:
    """Kills the services in turn, the next when the last is healthy again. `step` is called while a job runs, and never waits."""

    def __init__(self, compose: Compose, report: Any) -> None:
        self._compose = compose
        self._report = report
        self._left = list(KILLED)
        self._away: tuple[str, float] | None = None
        self.tally: dict[str, float] = {}
        """Service to seconds until it was healthy again."""

    @property
    def is_done(self) -> bool:
        return not self._left and self._away is None

    def step(self) -> None:
        """Raises DemoError if a service does not come back."""
        if self._away is None:
            if self._left:
                service = self._left.pop(0)
                self._report(f"KILL {service}")
                self._compose.kill(service)
                self._away = (service, time.monotonic())
            return
        service, killed_at = self._away
        health, seconds = self._compose.health().get(service, "gone"), time.monotonic() - killed_at
        if health == "healthy" and self._compose.restarts(service) == 1:
            self._report(f"{service} is healthy again after {seconds:.0f} s")
            self.tally[service], self._away = seconds, None
        elif seconds > AWAY_SECONDS:
            raise DemoError(f"{service} was killed and is {health} after {seconds:.0f} s.")


class ComposeDemo:
    """One run. `remove` is ours to call at the end, whatever happened; `folder` is its maker's, but for what containers wrote there."""

    def __init__(self, *, console: Console, folder: Path, keep: Path, example: Path, limit_seconds: float) -> None:
        self._console = console
        self._folder = folder
        self._keep = keep
        self._example = example
        self._limit_seconds = limit_seconds
        self._started = time.monotonic()
        self._engine: EngineHandle | None = None
        self._compose: Compose | None = None
        self._node_ids: list[str] = []
        self._ports = (_port_free(), _port_free())

    def run(self) -> None:
        """The whole demo. Raises DemoError if anything is not as it should be."""
        self._engine = engine = engine_ensure(report=self._report)
        client = engine.client()
        try:
            base = base_image_ensure(client, report=self._report)
            compose = self._compose = self._compose_make(engine, base)
            self._build(compose, client)
            descriptor = descriptor_load(self._example / "job.json")
            image = str(descriptor["docker_image"])
            image_id = workload_image_ensure(
                client, context=self._example, tag=image, base=base, report=self._report, engine_url=engine.base_url
            )
        finally:
            client.close()
        access = self._portal_start(compose, {image: image_id})
        self._hosts_start(compose, access["contributor_tokens"])
        api = PatientApi(self._origin, access["researcher_token"])
        self._first_job(compose, api, inputs_upload(api, descriptor, self._example), access)
        self._killed_jobs(compose, api, descriptor)
        self._lost_portal(compose, engine, api, descriptor, access["contributor_tokens"])

    def remove(self) -> None:
        """Containers, networks and volumes of this project, and what hosts left. Not the images: a second run is quick."""
        if self._compose is None or self._engine is None:
            return
        with contextlib.suppress(ComposeError):  # else root's and the containers' files would outlast the folder
            self._chown(self._compose, os.geteuid())
        self._compose.run("down", "--volumes", "--remove-orphans", "--timeout", "5")
        nodes_containers_remove(self._node_ids, docker_host=self._engine.base_url)

    def evidence(self) -> str:
        """For a demo that failed: the services' logs are below `keep`."""
        if self._compose is None:
            return "Nothing had been started."
        self._keep.mkdir(parents=True, exist_ok=True)
        log = self._keep / "compose-demo.log"
        log.write_text(self._compose.run("logs", "--no-color", "--timestamps"))
        return f"{self._compose.run('ps', '--all')}\nAll logs: {log}"

    @property
    def _origin(self) -> str:
        return f"https://localhost:{self._ports[1]}"

    def _compose_make(self, engine: EngineHandle, base: str) -> Compose:
        """The project's .env, and three hosts beside compose.yaml's one."""
        pip, ca, hosts, portal = self._folder / "pip.conf", ca_bundle(), self._folder / "hosts", self._folder / "portal.env"
        pip.touch(mode=0o600)
        pip.write_text(pip_configuration())
        hosts.mkdir(mode=0o711)
        portal.write_text("NEXA_EMAIL_BACKEND=django.core.mail.backends.dummy.EmailBackend\n")  # nobody here reads mail
        debian = {} if base.startswith("python:") else {"NEXA_PYTHON_BASE": base, "NEXA_DEBIAN_BASE": base}
        settings = {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "NEXA_HOSTNAME": HOSTNAME,
            "NEXA_ALLOWED_HOSTS": "localhost",  # by which we, outside of its networks, reach it
            "NEXA_SECRETS": str(self._folder / "secrets"),
            "NEXA_PORTAL_SETTINGS": str(portal),
            "NEXA_HTTP_PORT": f"127.0.0.1:{self._ports[0]}",
            "NEXA_HTTPS_PORT": f"127.0.0.1:{self._ports[1]}",
            "NEXA_SERVICE_CPUS": str(min(2, os.cpu_count() or 1)),
            "NEXA_BUILD_NETWORK": "host",  # a package index or proxy may be on this machine alone
            "NEXA_BUILD_CA": str(ca or "/dev/null"),
            "NEXA_BUILD_PIP_CONF": str(pip),
            "NEXA_HOST_HOME": str(hosts),
            "NEXA_DOCKER_GROUP": str(Path(engine.base_url.removeprefix("unix://")).stat().st_gid),
            **debian,
        }
        env_file, more = self._folder / "env", self._folder / "hosts.yaml"
        env_file.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        services = {
            f"host-{owner}": {
                "extends": {"file": str(CHECKOUT / "compose.yaml"), "service": "host"},
                "environment": {"NEXA_HOME": str(hosts / owner)},
                "stop_grace_period": "5s",
                "healthcheck": {"interval": "15s"},
            }
            for owner in OWNERS
        }
        more.write_text(json.dumps({"services": services}))  # JSON is YAML
        compose = Compose(files=[CHECKOUT / "compose.yaml", more], env_file=env_file, docker_host=engine.base_url)
        compose.run("down", "--volumes", "--remove-orphans", "--timeout", "5")  # of a run that was killed
        return compose

    def _build(self, compose: Compose, client: Any) -> None:
        self._report(f"docker compose build {' '.join(IMAGES)}")
        tags = [f"nexapod/{name}" for name in IMAGES.values()]
        with replaced_removed(client, *tags):
            compose.run("build", *IMAGES, limit_seconds=BUILD_SECONDS, on_line=lambda line: None)
        for tag in tags:
            self._report(f"image {tag:17} {client.images.get(tag).attrs['Size'] / 1e6:5.0f} MB with its base")

    def _portal_start(self, compose: Compose, images: Mapping[str, str]) -> dict[str, Any]:
        """The installation, as docs/operations.md has it. Returns the tokens of the people that the demo makes in it."""
        self._report("docker compose run --rm init")
        compose.run("run", "--rm", "init")
        self._report("docker compose up --detach --wait")
        compose.run(*UP, *SERVERS, limit_seconds=UP_SECONDS)
        self._report(", ".join(f"{name} {health}" for name, health in sorted(compose.health().items())))
        trusted = self._folder / "portal.pem"
        trusted.write_text(compose.run("exec", "-T", "proxy", "cat", "/run/tls/chain.pem"))
        os.environ["REQUESTS_CA_BUNDLE"] = str(trusted)  # what anybody does whose portal has a certificate of its own making
        self._report("manage.py check --deploy --database default --fail-level WARNING")
        compose.run("run", "--rm", "-T", "manage", "check", "--deploy", "--database", "default", "--fail-level", "WARNING")
        self._report("Prometheus's question, within the network of the services")
        scrape = "import urllib.request; print(urllib.request.urlopen('http://web:8000/metrics', timeout=30).read().decode())"
        if 'nexapod_up{dependency="database"} 1.0' not in compose.run("exec", "-T", "control", "python3", "-c", scrape):
            raise DemoError("Expected /metrics of `web` to say that the database answers.")
        link = compose.run("run", "--rm", "-T", "manage", "operator_invite", "operator@example.org").strip()
        if not link.startswith(f"https://{HOSTNAME}/accounts/"):
            raise DemoError(f"Expected operator_invite to print a link to the portal; found {link!r}.")
        self._report("manage.py operator_invite: a link, good once")
        seed = Seed(contributors=OWNERS, images=images)
        people = {"researcher": seed.researcher, "contributors": list(seed.contributors), "images": dict(seed.images)}
        access: dict[str, Any] = json.loads(compose.run("run", "--rm", "-T", "manage", "stack_prepare", "-", "-", given=json.dumps(people)))
        return access

    def _hosts_start(self, compose: Compose, tokens: Mapping[str, str]) -> None:
        for owner in OWNERS:
            home = self._folder / "hosts" / owner
            home.mkdir(mode=0o700)
            (home / "node.toml").write_text(NODE_SETTINGS)
        self._chown(compose, 10001)
        for owner in OWNERS:
            api = PortalApi(self._origin, tokens[owner])
            join = ["run", "--rm", "-T", "--no-deps", f"host-{owner}", "join", "--token-file", "-", "--name", f"{owner}-host"]
            compose.run(*join, given=api.join_token_mint())  # by standard input: no secret on a command line
            node = api.nodes()[0]
            self._node_ids.append(node["id"])
            self._report(f"nexa join in a container: {node['name']} of {owner}, tier {node['tier']}")
        compose.run(*UP, "--no-deps", *(f"host-{owner}" for owner in OWNERS), limit_seconds=UP_SECONDS)

    def _first_job(self, compose: Compose, api: PortalApi, document: Mapping[str, Any], access: Mapping[str, Any]) -> None:
        """Undisturbed, and checked to the last posting."""
        job = self._job_run(api, document, lambda: None)
        replicas = api.job_replicas(str(job["id"]))
        tokens = access["contributor_tokens"]
        outcome = Outcome(
            job=job,
            replicas=replicas,
            balances={owner: int(PortalApi(self._origin, tokens[owner]).account()["balance_micro"]) for owner in OWNERS},
            ledger=api.status()["ledger"],
            owners={f"{owner}-host": owner for owner in OWNERS},
        )
        self._console.print(outcome_table(outcome, origin=f"https://{HOSTNAME}", times=f"{time.monotonic() - self._started:.0f} s so far"))
        children = [line for line in compose.run("logs", "--no-color", "--no-log-prefix", "verify").splitlines() if "checks run in" in line]
        self._report(f"verify says: {json.loads(children[-1])['message'] if children else 'nothing'}")
        faults = faults_of(outcome) + self._bundle_faults(api, str(job["id"]))
        if faults:
            raise DemoError("\n".join([*faults, replicas_text(replicas)]))

    def _killed_jobs(self, compose: Compose, api: PortalApi, descriptor: Mapping[str, Any]) -> None:
        killing = Killing(compose, self._report)
        jobs = 0
        while not killing.is_done:
            jobs += 1
            document = inputs_upload(api, {**descriptor, "job_id": f"{descriptor['job_id']}-killed-{jobs}"}, self._example)
            job = self._job_run(api, document, killing.step)
            if faults := self._bundle_faults(api, str(job["id"])):
                raise DemoError("\n".join(faults))
        self._report(f"{len(killing.tally)} services killed during {jobs} jobs; all completed, and their bundles are verified")
        for service, seconds in killing.tally.items():
            self._report(f"  {service:10} healthy again after {seconds:4.0f} s")

    def _lost_portal(
        self, compose: Compose, engine: EngineHandle, api: PortalApi, descriptor: Mapping[str, Any], tokens: Mapping[str, str]
    ) -> None:
        """Everything but what was published, the secrets and the backup is lost, and comes back."""

        def standing() -> dict[str, Any]:
            jobs = {job["job_id"]: job["state"] for job in api.jobs()["jobs"]}
            return {
                "jobs": jobs,
                "balances": {owner: PortalApi(self._origin, tokens[owner]).account()["balance_micro"] for owner in OWNERS},
            }

        def volume_remove(name: str) -> None:
            with contextlib.closing(engine.client()) as client:
                client.volumes.get(f"{PROJECT}_{name}").remove()

        before, seen = standing(), self._audit(compose)
        made = backup_make(compose)
        self._report(f"manage.py backup_make /backups: {made}, and it is whole")
        portal_lose(compose, volume_remove=volume_remove)
        self._report("the portal's containers, its database and its blobs are gone")
        self._report(f"manage.py backup_restore: {portal_restore(compose, made, reason='The demo lost its database and its blobs.')}")
        after = standing()
        if after != before:
            raise DemoError(f"Expected the restored portal to say {before}; found {after}.")
        self._job_run(api, inputs_upload(api, {**descriptor, "job_id": f"{descriptor['job_id']}-restored"}, self._example), lambda: None)
        faults = [fault for one in api.jobs()["jobs"] for fault in self._bundle_faults(api, str(one["id"]))]
        again = self._audit(compose)
        if again["log"] == seen["log"]:
            faults.append(f"Expected the log to go on in a new epoch; found {again['log']} before and after.")
        if faults:
            raise DemoError("\n".join(faults))
        self._report(f"{len(after['jobs'])} jobs and all balances are as before; the same hosts completed one more")
        self._report(f"nexa audit: clean, the log goes on as {again['log']}")

    def _audit(self, compose: Compose) -> dict[str, Any]:
        """What `nexa audit` says of the portal under its own name, with the memory of the time before. Raises ComposeError for findings."""
        memory = self._folder / "hosts" / "auditor"
        coordinator = PortalApi(self._origin).coordinator_key_id()
        audit = ["audit", f"https://{HOSTNAME}", "--coordinator", coordinator, "--json"]
        said = compose.run("run", "--rm", "-T", "--no-deps", "--env", f"XDG_STATE_HOME={memory}", f"host-{OWNERS[0]}", *audit)
        found: dict[str, Any] = json.loads(said)
        return found

    def _job_run(self, api: PortalApi, document: Mapping[str, Any], on_poll: Any) -> dict[str, Any]:
        job = api.job_submit(document)
        self._report(f"submitted {job['job_id']}")
        try:
            job = job_follow(
                api, str(job["id"]), console=self._console, report=self._report, limit_seconds=self._limit_seconds, on_poll=on_poll
            )
        except JobLateError as error:
            raise DemoError(f"{error}\n{replicas_text(api.job_replicas(str(job['id'])))}") from error
        if job["state"] != "completed":
            raise DemoError(f"The job is {job['state']}: {job['failure_code']} {job['failure_message']}".rstrip())
        return job

    def _bundle_faults(self, api: PortalApi, job_id: str) -> list[str]:
        """Downloads the bundle when its payments are under a checkpoint, and has it verified by a process that has no Django."""
        bundle, limit = self._folder / "result.nexa.zip", time.monotonic() + LEDGER_LIMIT_SECONDS
        while True:
            try:
                with bundle.open("wb") as out:
                    api.bundle_download(job_id, out)
                if payments_proved(bundle):
                    break
            except PortalUnreachableError:
                pass  # a service that was killed last is not back yet
            if time.monotonic() > limit:
                return [f"The payments of {job_id} are under no checkpoint after {LEDGER_LIMIT_SECONDS:g} s."]
            time.sleep(0.5)
        coordinator = PortalApi(self._origin).coordinator_key_id()
        done = subprocess.run(
            [HOST_BIN / "nexa", "verify", bundle, "--coordinator", coordinator],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=VERIFY_LIMIT_SECONDS,
            check=False,
        )
        if done.returncode:
            return [f"expected nexa verify to accept the bundle, found: {(done.stdout + done.stderr).strip()}"]
        self._report(f"nexa verify: {done.stdout.strip().splitlines()[0]}")
        self._keep.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle, self._keep / "compose-result.nexa.zip")
        return []

    def _chown(self, compose: Compose, owner: int) -> None:
        """Gives the hosts' homes and the secrets to `owner`; by a container, since we need not be root."""
        places = [str(self._folder / name) for name in ("hosts", "secrets") if owner != 10001 or name == "hosts"]
        mounts = [part for place in places for part in ("--volume", f"{place}:{place}")]
        compose.run("run", "--rm", "--no-deps", *mounts, "--entrypoint", "chown", "init", "-R", f"{owner}:{owner}", *places)

    def _report(self, line: str) -> None:
        self._console.print(f"{time.monotonic() - self._started:7.1f} s  {line}", highlight=False, markup=False, soft_wrap=True)


def _port_free() -> int:
    """A port of the loopback interface that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
