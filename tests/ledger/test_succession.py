"""The coordinator's change of keys: the command, the chain, and that results from before, between and after still verify."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, transaction
from django.test import Client
from pytest_django import Settings

from client.verification import CoordinatorWrongError, bundle_verify
from jobs.models import Job
from jobs.services.settlement import job_settle
from ledger.checkpoints import checkpoint_publish
from ledger.coordinator_key import coordinator_private_key, coordinator_public_key, key_file_read
from ledger.models import CoordinatorSuccession
from ledger.succession import SuccessionRefusedError, predecessors_of, succession_record
from tests.factories.bundles import bundle_bytes
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.nodes import ORIGIN
from tests.factories.receipts import replica_report
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.joining import CoordinatorInfo
from workers.protocol.succession import SUCCESSIONS_MAX, keys_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Keys are read once a process; a test that changes them is a process of its own in that respect."""
    _keys_forget()
    yield
    _keys_forget()


def _keys_forget() -> None:
    for one in (coordinator_private_key, coordinator_public_key):
        one.cache_clear()


def succeed(path: Path) -> str:
    out = io.StringIO()
    call_command("coordinator_key_succeed", str(path), stdout=out)
    return out.getvalue()


def restart_with(settings: Settings, path: Path) -> PublicKey:
    settings.NEXA_COORDINATOR_KEY_FILE = path
    _keys_forget()
    return coordinator_public_key()


def coordinator_info() -> CoordinatorInfo:
    return CoordinatorInfo.model_validate(Client().get("/api/v1/coordinator").json())


class TestCommand:
    def test_the_chain_leads_from_each_earlier_key_to_the_present_one(self, settings: Settings, tmp_path: Path) -> None:
        keys = [coordinator_public_key()]
        for number in range(2):
            path = tmp_path / f"key-{number}"
            said = succeed(path)
            assert path.stat().st_mode & 0o777 == 0o600
            assert coordinator_info().public_key == keys[-1].to_base64()  # not before the restart
            keys.append(restart_with(settings, path))
            assert keys[-1].to_base64() in said
            assert path.read_text().strip() not in said
        info = coordinator_info()
        assert keys_of(info.predecessors, present=PublicKey.from_base64(info.public_key), origin=ORIGIN) == tuple(keys)

    def test_between_statement_and_restart_nobody_is_told_of_the_next_key(self, tmp_path: Path) -> None:
        succeed(tmp_path / "key")
        assert coordinator_info().predecessors == ()

    def test_again_with_the_same_file_changes_nothing(self, tmp_path: Path) -> None:
        assert succeed(tmp_path / "key") == succeed(tmp_path / "key")
        assert CoordinatorSuccession.objects.count() == 1

    def test_a_key_has_one_successor(self, tmp_path: Path) -> None:
        succeed(tmp_path / "key")
        with pytest.raises(CommandError, match="a key has one"):
            succeed(tmp_path / "other")

    def test_a_file_of_something_else_is_refused_and_kept(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        path.write_text("c2VjcmV0\n")
        with pytest.raises(CommandError, match="base64 of 32 bytes") as caught:
            succeed(path)
        assert "c2VjcmV0" not in str(caught.value)
        assert path.read_text() == "c2VjcmV0\n"

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="nowhere"):
            succeed(tmp_path / "nowhere" / "key")

    def test_a_process_without_the_signing_key_names_the_setting(self, settings: Settings, tmp_path: Path) -> None:
        settings.NEXA_COORDINATOR_KEY_FILE = ""
        with pytest.raises(CommandError, match="NEXA_COORDINATOR_KEY_FILE"):
            succeed(tmp_path / "key")


class TestChain:
    def test_only_the_newest_key_goes_on(self) -> None:
        first, second, third = (PrivateKey.generate() for _ in range(3))
        succession_record(key=first, successor=second.public)
        with pytest.raises(SuccessionRefusedError, match="The newest key of the chain is"):
            succession_record(key=third, successor=PrivateKey.generate().public)

    @pytest.mark.parametrize("again", ["itself", "its predecessor"])
    def test_a_successor_is_a_new_key(self, again: str) -> None:
        first, second = PrivateKey.generate(), PrivateKey.generate()
        succession_record(key=first, successor=second.public)
        with pytest.raises(SuccessionRefusedError, match="a successor is a new key"):
            succession_record(key=second, successor=second.public if again == "itself" else first.public)

    def test_it_is_as_long_as_hosts_read(self) -> None:
        key = PrivateKey.generate()
        for _ in range(SUCCESSIONS_MAX):
            new = PrivateKey.generate()
            succession_record(key=key, successor=new.public)
            key = new
        assert len(predecessors_of(key.public)) == SUCCESSIONS_MAX
        with pytest.raises(SuccessionRefusedError, match="as many as a host walks"):
            succession_record(key=key, successor=PrivateKey.generate().public)

    def test_a_stranger_has_no_predecessors(self) -> None:
        succession_record(key=PrivateKey.generate(), successor=PrivateKey.generate().public)
        assert predecessors_of(PrivateKey.generate().public) == ()

    @pytest.mark.parametrize("change", ["update", "delete"])
    def test_the_database_keeps_what_was_signed(self, change: str) -> None:
        succession_record(key=PrivateKey.generate(), successor=PrivateKey.generate().public)
        rows: Any = CoordinatorSuccession.objects.all()
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            rows.delete() if change == "delete" else rows.update(key_id="x")


@pytest.mark.parametrize("new_checkpoint", [False, True])
def test_results_from_before_verify_for_who_pinned_the_old_key_and_who_pins_the_new(
    settings: Settings, tmp_path: Path, new_checkpoint: bool
) -> None:
    job = job_make(verification={"copies": 1, "quorum": 1})
    replica_report(job)
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    checkpoint_publish()
    old = coordinator_public_key()
    succeed(tmp_path / "key")
    new = restart_with(settings, tmp_path / "key")
    if new_checkpoint:
        job_make()
        checkpoint_publish()
    path = tmp_path / "b.zip"
    path.write_bytes(bundle_bytes(Job.objects.get(pk=job.pk)))
    for pinned in (old, new):
        [replica] = bundle_verify(path, coordinator_key_id=pinned.key_id).replicas
        assert replica.paid_micro is not None
    with pytest.raises(CoordinatorWrongError):
        bundle_verify(path, coordinator_key_id=PrivateKey.generate().public.key_id)
    assert key_file_read(tmp_path / "key").public == new
