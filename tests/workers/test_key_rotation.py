"""`nexa key rotate` and `nexa key protect`, against a portal over HTTP; with a crash after each step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from tests.workers.homes import profile_make
from tests.workers.portal_fake import FakePortal
from tests.workers.portal_fake_http import RefusedError
from tests.workers.test_cli import invoke, token_of
from workers.home import NodeHome
from workers.home_errors import (
    HomeCopiedError,
    KeyDamagedError,
    KeyRotationUnfinishedError,
    KeyStorageUnavailableError,
    PassphraseWrongError,
)
from workers.joining import node_join
from workers.journal import Fact, Journal
from workers.key_commands import key as key_group
from workers.key_rotation import LeasesUnreportedError, key_protect, key_rotate
from workers.keystore.choice import KeyStorageChoice
from workers.keystore.interface import KeyPlace, KeyStorageKind, key_text
from workers.keystore.plain_file import PlainFileStorage
from workers.portal import PortalProtocolError, PortalRefusedError, PortalUnreachableError
from workers.protocol.join_tokens import join_token_encode
from workers.protocol.keys import PrivateKey


@pytest.fixture
def journal(home: NodeHome) -> Iterator[Journal]:
    journal = Journal.open(home.journal_path)
    yield journal
    journal.close()


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "passphrase"
    path.write_text("correct horse battery staple\n")
    path.chmod(0o600)
    return path


def lease_add(journal: Journal, *, receipt: bytes | None) -> None:
    lease_id = uuid4()
    journal.lease_add(lease_id=lease_id, replica_id=uuid4(), envelope=b"{}", order_digest="d", job_type="t", image="i")
    if receipt is not None:
        journal.lease_finished(lease_id, receipt=receipt, failure=None, uploads=[])


class TestRotation:
    def test_new_key_is_the_nodes_and_the_old_one_gone(self, home: NodeHome, portal: FakePortal, journal: Journal) -> None:
        old = home.key()
        new = key_rotate(home, journal)
        assert home.key().raw == new.raw != old.raw
        assert home.identity().key_id == new.public.key_id
        assert list(portal.nodes) == [new.public.key_id]
        stored = [path.read_text() for path in home.folder.iterdir() if path.name.startswith("key")]
        assert stored == [key_text(new) + "\n"]

    def test_lost_answer_is_asked_for_again_with_the_same_key(self, home: NodeHome, portal: FakePortal, journal: Journal) -> None:
        portal.rotation_answers_to_lose = 1
        with pytest.raises(PortalUnreachableError):
            key_rotate(home, journal)
        pending = PlainFileStorage(home.folder).read(KeyPlace.PENDING)
        with pytest.raises(KeyRotationUnfinishedError, match="nexa key rotate"):
            home.key()
        assert key_rotate(home, journal).raw == pending.raw
        assert home.key().raw == pending.raw

    def test_portal_away_leaves_a_rotation_to_be_finished(self, home: NodeHome, portal: FakePortal, journal: Journal) -> None:
        portal.outage = True
        with pytest.raises(PortalUnreachableError):
            key_rotate(home, journal)
        portal.outage = False
        key_rotate(home, journal)
        assert list(portal.nodes) == [home.key().public.key_id]

    @pytest.mark.parametrize("moved", [False, True])
    def test_process_that_died_after_the_answer_is_made_up_for(
        self, home: NodeHome, portal: FakePortal, journal: Journal, moved: bool
    ) -> None:
        """`node.json` names the new key; it is still beside the old one, or in its place already and not yet removed."""
        storage, old = PlainFileStorage(home.folder), home.key()
        new = key_rotate(home, journal)
        storage.write(KeyPlace.PENDING, new)
        if not moved:
            storage.write(KeyPlace.CURRENT, old)
        assert key_rotate(home, journal).raw == new.raw
        assert home.key().raw == new.raw
        assert not (home.folder / "key.next").exists()

    def test_moved_home_works_again_and_the_copy_is_worthless(self, home: NodeHome, portal: FakePortal, journal: Journal) -> None:
        moved = NodeHome(home.folder.with_name("moved"))
        journal.fact_note(Fact.STATE, "stopped")
        shutil.copytree(home.folder, moved.folder)
        with pytest.raises(HomeCopiedError):
            moved.place_check()
        moved_journal = Journal.open(moved.journal_path)
        key_rotate(moved, moved_journal)
        moved_journal.close()
        moved.place_check()
        home.place_check()
        with pytest.raises(PortalRefusedError, match="key_retired"):
            key_rotate(home, journal)

    def test_leases_without_a_receipt_are_reported_first_or_given_up(self, home: NodeHome, portal: FakePortal, journal: Journal) -> None:
        lease_add(journal, receipt=None)
        lease_add(journal, receipt=b"signed by the old key")
        old = home.key()
        with pytest.raises(LeasesUnreportedError, match="1 lease of this node"):
            key_rotate(home, journal)
        assert home.key().raw == old.raw
        key_rotate(home, journal, give_up=True)
        assert [row.receipt for row in journal.leases_open()] == [b"signed by the old key"]

    def test_request_of_the_old_key_is_not_repeated(self, home: NodeHome, portal: FakePortal, journal: Journal) -> None:
        journal.fact_note(Fact.REQUEST_ID, "9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c06")
        key_rotate(home, journal)
        assert journal.fact(Fact.REQUEST_ID) != "9a8b7c6d-5e4f-4a3b-8c2d-1e0f9a8b7c06"

    def test_answer_about_another_key_changes_nothing(self, home: NodeHome, portal: FakePortal, journal: Journal) -> None:
        old = home.key()
        portal.confirms_instead = old.public
        with pytest.raises(PortalProtocolError, match="Expected the portal to confirm"):
            key_rotate(home, journal)
        assert home.identity().key_id == old.public.key_id

    def test_systemd_credential_is_not_rotated_from_here(self, home: NodeHome, journal: Journal) -> None:
        home.identity_write(home.identity().model_copy(update={"key_storage": KeyStorageChoice(KeyStorageKind.SYSTEMD)}))
        with pytest.raises(KeyStorageUnavailableError, match="nexa key protect file"):
            key_rotate(home, journal)

    def test_sealed_key_is_rotated_sealed(self, home: NodeHome, portal: FakePortal, journal: Journal, passphrase_file: Path) -> None:
        key_protect(home, KeyStorageChoice.of(KeyStorageKind.SEALED, folder=home.folder, passphrase_file=passphrase_file))
        new = key_rotate(home, journal)
        assert sorted(path.name for path in home.folder.iterdir() if path.name.startswith("key")) == ["key.sealed"]
        assert home.key().raw == new.raw


class TestProtection:
    def test_key_moves_and_the_plain_file_goes(self, home: NodeHome, passphrase_file: Path) -> None:
        key = home.key()
        key_protect(home, KeyStorageChoice.of(KeyStorageKind.SEALED, folder=home.folder, passphrase_file=passphrase_file))
        assert not (home.folder / "key").exists()
        assert home.key().raw == key.raw
        assert key_text(key) not in (home.folder / "node.json").read_text()
        passphrase_file.write_text("something else\n")
        with pytest.raises(PassphraseWrongError):
            home.key()
        passphrase_file.write_text("correct horse battery staple\n")
        key_protect(home, KeyStorageChoice())
        assert home.key().raw == key.raw
        assert not (home.folder / "key.sealed").exists()

    def test_move_that_died_before_the_old_file_went_is_finished_by_the_next(self, home: NodeHome, passphrase_file: Path) -> None:
        choice = KeyStorageChoice.of(KeyStorageKind.SEALED, folder=home.folder, passphrase_file=passphrase_file)
        key = home.key()
        key_protect(home, choice)
        PlainFileStorage(home.folder).write(KeyPlace.CURRENT, key)
        key_protect(home, choice)
        assert not (home.folder / "key").exists()

    def test_credential_of_another_key_is_refused(self, home: NodeHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "nexa-key").write_text(key_text(PrivateKey.generate()))
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        key = home.key()
        with pytest.raises(KeyStorageUnavailableError, match="Nothing was changed"):
            key_protect(home, KeyStorageChoice(KeyStorageKind.SYSTEMD))
        assert home.key().raw == key.raw
        (tmp_path / "nexa-key").write_text(key_text(key))
        key_protect(home, KeyStorageChoice(KeyStorageKind.SYSTEMD))
        assert home.key().raw == key.raw
        assert not (home.folder / "key").exists()

    def test_key_of_another_node_in_the_home_is_refused(self, home: NodeHome) -> None:
        PlainFileStorage(home.folder).write(KeyPlace.CURRENT, PrivateKey.generate())
        with pytest.raises(KeyDamagedError, match=r"as node\.json says"):
            home.key()


class TestCommands:
    def test_rotate_and_protect(self, home: NodeHome, portal: FakePortal, passphrase_file: Path) -> None:
        result = command(home, "rotate")
        assert result.exit_code == 0, result.output
        assert home.identity().key_id in result.output
        result = command(home, "protect", "sealed", "--passphrase-file", str(passphrase_file))
        assert result.exit_code == 0, result.output
        assert json.loads((home.folder / "node.json").read_text())["key_storage"]["kind"] == "sealed"
        assert "correct horse" not in result.output

    def test_no_worker_may_run(self, home: NodeHome) -> None:
        lock = home.lock()
        try:
            for arguments in (("rotate",), ("protect", "file")):
                result = command(home, *arguments)
                assert result.exit_code == 1
                assert "Another worker" in result.output
        finally:
            lock.release()

    def test_refusal_of_the_portal_is_told(self, home: NodeHome, portal: FakePortal) -> None:
        portal.refusals["/api/v1/nodes/self/key"] = RefusedError(403, "key_retired", "The key was replaced.")
        result = command(home, "rotate")
        assert result.exit_code == 1
        assert "revoke the node" in result.output

    def test_passphrase_file_goes_with_sealed_only(self, home: NodeHome, passphrase_file: Path) -> None:
        assert command(home, "protect", "file", "--passphrase-file", str(passphrase_file)).exit_code == 2

    def test_passphrase_that_nobody_can_be_asked_for(self, home: NodeHome) -> None:
        key = home.key()
        result = command(home, "protect", "sealed")
        assert result.exit_code == 1
        assert "--passphrase-file" in result.output
        assert home.key().raw == key.raw

    def test_key_that_cannot_be_had_keeps_nobody_from_leaving(self, home: NodeHome, portal: FakePortal) -> None:
        (home.folder / "key").write_text("damaged")
        result = invoke(home, "leave", "--yes")
        assert result.exit_code == 0
        assert "Revoke the node on its page" in result.output
        assert not home.joined


def test_joining_with_a_sealed_key(portal: FakePortal, tmp_path: Path, passphrase_file: Path) -> None:
    home = NodeHome(tmp_path / "new")
    token = token_of(portal)
    choice = KeyStorageChoice.of(KeyStorageKind.SEALED, folder=home.folder, passphrase_file=passphrase_file)
    portal.outage = True
    for _ in range(2):
        with pytest.raises(PortalUnreachableError):
            node_join(home, token=token, coordinator=portal.key.public, name="x", profile=profile_make(), key_storage=choice)
    portal.outage = False
    answer = node_join(home, token=token, coordinator=portal.key.public, name="x", profile=profile_make(), key_storage=choice)
    assert home.key().public.key_id == answer.key_id
    assert [path.name for path in home.folder.iterdir() if path.name.startswith("key")] == ["key.sealed"]


def test_join_knows_the_storages(portal: FakePortal, tmp_path: Path) -> None:
    result = invoke(NodeHome(tmp_path / "new"), "join", "--key-storage", "cloud", join_token_encode(token_of(portal)))
    assert result.exit_code == 2
    assert "'file', 'sealed', 'keyring', 'systemd'" in result.output


def command(home: NodeHome, *arguments: str) -> Result:
    return CliRunner().invoke(key_group, arguments, env={"NEXA_HOME": str(home.folder)})
