"""A portal that works is backed up, works on, loses everything but what it had published, and is restored; its hosts go on."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack.engine import EngineHandle
from devstack.stack import CHECKOUT, HOST_BIN
from tests.acceptance.conftest import TINY
from tests.acceptance.running_stack import SETTINGS, RunningStack, stack_running

pytestmark = [pytest.mark.acceptance, pytest.mark.docker]

SERVERS = ("web", "control", "verify", "conclude")


def manage(running: RunningStack, *arguments: str) -> str:
    """What a management command says; it must succeed."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | running.stack.manage_settings()
    command = [sys.executable, str(CHECKOUT / "manage.py"), *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def audited(running: RunningStack, home: Path) -> dict[str, Any]:
    """`nexa audit` by somebody who remembers the audit before."""
    command = [str(HOST_BIN / "nexa"), "audit", running.stack.origin, "--coordinator", running.stack.coordinator_key_id, "--json"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["clean"], found
    return found


def balances(running: RunningStack) -> dict[str, int]:
    people = {"researcher": running.researcher, **running.contributors}
    return {name: running.balance_micro(api) for name, api in people.items()}


def wipe(running: RunningStack) -> None:
    """Kills the portal; its tables, blobs and key are gone."""
    for name in SERVERS:
        running.process_kill(name)
    with psycopg.connect(running.services.postgres_dsn, autocommit=True) as database:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        database.execute(f"SELECT pg_terminate_backend(pid) {others}")
        database.execute("SET lock_timeout = '20s'")
        database.execute("DROP SCHEMA public CASCADE")
        database.execute("CREATE SCHEMA public")
    shutil.rmtree(running.folder / "blobs")
    (running.folder / "coordinator.key").unlink()


def test_after_backup_wipe_and_restore_all_is_as_before_and_hosts_go_on(tmp_path: Path, engine: EngineHandle) -> None:
    settings = {**SETTINGS, "NEXA_BLOB_INLINE_BYTES": "64"}  # archives and logs are files of the store
    with stack_running(tmp_path, engine, TINY, owners=("ada", "emmy"), settings=settings) as running:
        before = running.job_wait(running.submit(TINY), limit_seconds=240)
        bundle = running.bundle(before["id"]).read_bytes()
        money, first = balances(running), audited(running, tmp_path)
        made = manage(running, "backup_make", str(tmp_path / "backups")).splitlines()[-1].removeprefix("Backup: ")
        lost = running.job_wait(running.submit(TINY), limit_seconds=240)
        running.bundle(lost["id"])
        second = audited(running, tmp_path)
        assert second["size"] > first["size"]

        wipe(running)
        said = manage(running, "backup_restore", made, "--reason", "a test")
        assert "Database, log and files agree." in said
        assert "Database, log and files agree." in manage(running, "ledger_verify")
        running.services.redis_flush()
        for name in SERVERS:
            running.process_restart(name)
        running.portal_wait(limit_seconds=180)

        assert running.researcher.job(before["id"])["state"] == "completed"
        assert balances(running) == money
        assert _members(running.bundle(before["id"]).read_bytes()) == _members(bundle)
        after = running.job_wait(running.submit(TINY), limit_seconds=240)
        assert {replica["state"] for replica in running.researcher.job_replicas(after["id"])} == {"accepted"}
        running.bundle(after["id"])
        third = audited(running, tmp_path)
        assert third["log"].endswith("/ledger/2")
        assert third["coordinator"] == first["coordinator"]


def _members(bundle: bytes) -> dict[str, int]:
    """Names and checksums of a bundle's members, but for those that name the newest checkpoint."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as opened:
        return {info.filename: info.CRC for info in opened.infolist() if info.filename not in ("bundle.json", "seal.json")}
