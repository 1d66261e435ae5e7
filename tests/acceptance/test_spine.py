"""The whole way of a job through real processes: portal, workers, three hosts without Django, containers, ledger, offline verifier."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from psycopg.conninfo import conninfo_to_dict

from client.bundle_file import BundleFile
from devstack.engine import EngineHandle
from devstack.stack import APPLICATION_ROLE, CHECKOUT, HOST_BIN, VERIFY_ROLE
from jobs.comparison.results import results_compare
from jobs.descriptor import descriptor_parse
from tests.acceptance.conftest import TINY
from tests.acceptance.running_stack import BASE_IMAGE, LEASE_SECONDS, RunningStack, stack_running
from tests.acceptance.traces import wait_for
from workers.protocol.archives import ArchiveReader
from workers.protocol.messages.receipt import Manifest

pytestmark = [pytest.mark.acceptance, pytest.mark.docker]

FOLDING = CHECKOUT / "examples" / "folding"
OTHER_PROCESSOR = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2,-AVX2_Usable,-FMA4"}
"""Has glibc choose the mathematics of an older processor, whose last digits differ."""
SINES = "import math; print([math.sin(x * 0.37) + math.exp(x * 1e-3) for x in range(20000)])"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, engine: EngineHandle) -> Iterator[RunningStack]:
    with stack_running(tmp_path_factory.mktemp("stack"), engine, TINY, FOLDING) as found:
        yield found


def _verify(bundle: Path, key_id: str) -> subprocess.CompletedProcess[str]:
    """`nexa verify` where there is no Django, no configuration and no portal."""
    command = [str(HOST_BIN / "nexa"), "verify", str(bundle), "--coordinator", key_id]
    bare = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    return subprocess.run(command, env=bare, capture_output=True, text=True, timeout=60, check=False)


def _result(bundle: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The canonical archive's manifest and files."""
    with BundleFile(bundle) as opened:
        (name,) = [name for name in opened.names if name.endswith("archive.tar")]
        reader = ArchiveReader(io.BytesIO(opened.read(name, limit_bytes=16 * 2**20)))
    files = {}
    for member in reader:
        parts = iter(member.read, b"")
        files[member.path] = b"".join(parts)
    return reader.info.manifest, files


def test_host_environment_has_no_server_framework() -> None:
    for module in ("django", "rest_framework", "psycopg", "channels"):
        found = subprocess.run([HOST_BIN / "python", "-c", f"import {module}"], capture_output=True, text=True, check=False)
        assert f"No module named '{module}'" in found.stderr


def test_job_is_computed_by_two_owners_paid_and_verified_offline(running: RunningStack) -> None:
    before = {owner: running.balance_micro(api) for owner, api in running.contributors.items()}

    job = running.job_wait(running.submit(TINY), limit_seconds=60)

    replicas = running.researcher.job_replicas(job["id"])
    assert [replica["state"] for replica in replicas] == ["accepted", "accepted"]
    owners = {running.hosts[replica["node"]].owner for replica in replicas}
    assert len(owners) == 2
    earned = {owner: running.balance_micro(api) - before[owner] for owner, api in running.contributors.items()}
    assert {owner for owner, micro in earned.items() if micro > 0} == owners
    assert sum(earned.values()) == sum(int(replica["result"]["paid_micro"]) for replica in replicas)
    assert json.loads(_result(running.bundle(job["id"]))[1]["sum.json"]) == {"count": 20, "sum_of_squares": 2870}
    verified = _verify(running.bundle(job["id"]), running.stack.coordinator_key_id)
    assert verified.returncode == 0, verified.stderr
    assert "payments proved under the ledger's checkpoint" in verified.stdout


def test_commands_of_the_api_document_lead_from_files_to_a_verified_bundle(running: RunningStack, tmp_path: Path) -> None:
    """Every block of bash in docs/API.md, one after the other, as somebody pastes them."""
    commands = re.findall(r"^```bash\n(.*?)^```$", (CHECKOUT / "docs" / "API.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    settings = {
        "NEXA_PORTAL": running.stack.origin,
        "NEXA_TOKEN": running.researcher_token,
        "NEXA_COORDINATOR": running.stack.coordinator_key_id,
        "IMAGE": BASE_IMAGE,
    }
    environment = {**settings, "PATH": f"{HOST_BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(tmp_path)}

    script = ["bash", "-euo", "pipefail", "-c", "".join(commands)]
    done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified" in done.stdout
    _, files = _result(tmp_path / "result.nexa.zip")
    assert files == {"words.txt": b"3\n"}


def test_processes_are_not_the_owner_of_the_database(running: RunningStack) -> None:
    running.job_wait(running.submit(TINY), limit_seconds=60)

    users = {}
    for name in ("web", "control", "verify", "conclude"):
        environment = Path(f"/proc/{running.process(name).pid}/environ").read_text().split("\0")
        (address,) = [line.partition("=")[2] for line in environment if line.startswith("NEXA_DATABASE_URL=")]
        users[name] = conninfo_to_dict(address)["user"]
    assert users == {"web": APPLICATION_ROLE, "control": APPLICATION_ROLE, "verify": VERIFY_ROLE, "conclude": APPLICATION_ROLE}


def test_bundle_with_one_changed_byte_is_refused(running: RunningStack) -> None:
    job = running.job_wait(running.submit(TINY), limit_seconds=60)
    path = running.bundle(job["id"])
    whole = path.read_bytes()
    place = whole.index(b'"sum_of_squares": 2870') + len(b'"sum_of_squares": ')
    path.write_bytes(whole[:place] + b"3" + whole[place + 1 :])

    refused = _verify(path, running.stack.coordinator_key_id)

    assert refused.returncode == 1
    assert "verified" not in refused.stdout


def test_folding_agrees_with_itself_under_the_mathematics_of_another_processor(running: RunningStack, engine: EngineHandle) -> None:
    """Two hosts, one of whose containers sees an older processor, get results that the job's own rule takes for the same."""
    _expect_other_mathematics(engine)
    single = {"method": "numeric", "copies": 1, "quorum": 1}
    here = running.submit(FOLDING, verification=single)
    there = running.submit(FOLDING, environment=OTHER_PROCESSOR, verification=single)

    jobs = [running.job_wait(job_id, limit_seconds=240) for job_id in (here, there)]

    nodes = {running.researcher.job_replicas(job["id"])[0]["node"] for job in jobs}
    assert len(nodes) == 2, "expected two hosts to have computed at the same time"
    results = [_result(running.bundle(job["id"])) for job in jobs]
    comparison = results_compare(
        descriptor=descriptor_parse(jobs[0]["descriptor"]),
        manifests=(results[0][0], results[1][0]),
        read=lambda side, path: results[side][1][path],
    )
    assert comparison.agree, comparison


def _expect_other_mathematics(engine: EngineHandle) -> None:
    """On a processor that has them, leaving out its fused instructions must change some last digit: else the test compares nothing."""
    if " fma " not in Path("/proc/cpuinfo").read_text():
        return
    client = docker.DockerClient(base_url=engine.base_url, timeout=60)
    try:
        outputs = [
            client.containers.run(
                "nexapod/folding:1.0", ["python3", "-c", SINES], environment=environment, remove=True, network_mode="none"
            )
            for environment in ({}, OTHER_PROCESSOR)
        ]
    finally:
        client.close()
    assert outputs[0] != outputs[1]


def test_host_killed_while_running_is_replaced_and_comes_back(running: RunningStack, engine: EngineHandle) -> None:
    job_id = running.submit(TINY, environment={"TINY_SECONDS": "12"})
    killed, other = [replica["node"] for replica in running.replicas_wait(job_id, "running", count=2, limit_seconds=30)]

    running.host_kill(killed)
    job = running.job_wait(job_id, limit_seconds=LEASE_SECONDS + 70)
    (expired,) = running.replicas_wait(job_id, "expired", count=1, limit_seconds=1)  # all replicas are shown now

    assert expired["node"] == killed
    accepted = {replica["node"] for replica in running.researcher.job_replicas(job_id) if replica["state"] == "accepted"}
    (third,) = running.hosts.keys() - {killed, other}
    assert accepted == {other, third}
    assert _verify(running.bundle(job["id"]), running.stack.coordinator_key_id).returncode == 0
    assert _containers(engine, running.node_id(killed)), "expected the killed host's container to be there still"

    running.host_start(killed)
    wait_for(lambda: not _containers(engine, running.node_id(killed)), limit_seconds=30, what=lambda: "the host removes what it had left")
    whole = running.submit(TINY, verification={"method": "numeric", "copies": 3, "quorum": 3})
    running.job_wait(whole, limit_seconds=60)
    nodes = {replica["node"] for replica in running.researcher.job_replicas(whole) if replica["state"] == "accepted"}
    assert nodes == set(running.hosts)


def test_books_balance_to_the_last_millionth(running: RunningStack) -> None:
    job = running.job_wait(running.submit(TINY), limit_seconds=60)
    running.bundle(job["id"])  # its payments are in the public log

    entries = running.ledger_entries()

    assert all(sum(int(posting["amount_micro"]) for posting in entry["postings"]) == 0 for entry in entries)
    sums: dict[str, int] = {}
    for entry in entries:
        for posting in entry["postings"]:
            sums[posting["account"]] = sums.get(posting["account"], 0) + int(posting["amount_micro"])
    for api in (running.researcher, *running.contributors.values()):
        account = api.account()
        assert sums.get(account["account_id"], 0) == int(account["balance_micro"])


def _containers(engine: EngineHandle, node_id: str) -> list[str]:
    client = docker.DockerClient(base_url=engine.base_url, timeout=20)
    try:
        return [str(each["Id"]) for each in client.api.containers(all=True, filters={"label": f"nexapod.home={node_id}"})]
    finally:
        client.close()
