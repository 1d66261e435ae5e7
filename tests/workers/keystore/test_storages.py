"""Every storage of a node's key: what it keeps, what it refuses, and that nothing of a secret is in a message."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keyring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.errors import KeyringLocked, PasswordDeleteError

from workers.home_errors import (
    KeyAbsentError,
    KeyDamagedError,
    KeyStorageError,
    KeyStorageUnavailableError,
    PassphraseMissingError,
    PassphraseWrongError,
)
from workers.keystore.choice import KeyStorageChoice, storage_open
from workers.keystore.interface import KeyPlace, KeyStorage, KeyStorageKind, key_text
from workers.keystore.os_keyring import OsKeyringStorage
from workers.keystore.passphrase import passphrase_source
from workers.keystore.plain_file import PlainFileStorage
from workers.keystore.sealed_file import SealedFileStorage
from workers.keystore.systemd_credential import SystemdCredentialStorage
from workers.protocol.keys import PrivateKey

PASSPHRASE = "correct horse battery staple"


class MemoryKeyring(KeyringBackend):
    """A whole backend of the library `keyring`, as a desktop's would be; `locked`: nobody has unlocked it."""

    priority = 5.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped upstream
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False

    def _open(self, secret: str = "") -> None:
        if self.locked:
            raise KeyringLocked(f"no unlocking of {secret}")

    def get_password(self, service: str, username: str) -> str | None:
        self._open()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._open(password)
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._open()
        if self.entries.pop((service, username), None) is None:
            raise PasswordDeleteError("not found")


@pytest.fixture(params=["file", "sealed", "keyring"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStorage:
    """Each storage that can be written."""
    match request.param:
        case "file":
            return PlainFileStorage(tmp_path / "home")
        case "sealed":
            return SealedFileStorage(tmp_path / "home", lambda: PASSPHRASE)
        case _:
            return OsKeyringStorage("entry", MemoryKeyring())


@pytest.fixture
def session_keyring() -> Iterator[MemoryKeyring]:
    """The keyring of this session, as the library finds it."""
    before = keyring.get_keyring()
    backend = MemoryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


class TestEachStorage:
    def test_both_keys_are_kept_apart_replaced_and_forgotten(self, storage: KeyStorage) -> None:
        keys = {place: PrivateKey.generate() for place in KeyPlace}
        for place, key in keys.items():
            with pytest.raises(KeyAbsentError):
                storage.read(place)
            storage.write(place, key)
        for place, key in keys.items():
            assert storage.read(place).raw == key.raw
        other = PrivateKey.generate()
        storage.write(KeyPlace.CURRENT, other)
        assert storage.read(KeyPlace.CURRENT).raw == other.raw
        storage.remove(KeyPlace.CURRENT)
        storage.remove(KeyPlace.CURRENT)
        with pytest.raises(KeyAbsentError):
            storage.read(KeyPlace.CURRENT)
        assert storage.read(KeyPlace.PENDING).raw == keys[KeyPlace.PENDING].raw


class TestFiles:
    @pytest.mark.parametrize("name", ["key", "key.sealed"])
    def test_file_that_others_may_read_is_refused(self, tmp_path: Path, name: str) -> None:
        storage = _file_storage(name, tmp_path)
        storage.write(KeyPlace.CURRENT, PrivateKey.generate())
        path = tmp_path / name
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o640)
        with pytest.raises(KeyDamagedError, match="chmod 600"):
            storage.read(KeyPlace.CURRENT)

    @pytest.mark.parametrize("name", ["key", "key.sealed"])
    @pytest.mark.parametrize("data", [b"", b"c2VjcmV0IGJ5dGVz\n", b"\xff\xfe", b"{}", b"[" * 70000])
    def test_file_of_something_else_is_refused_and_not_repeated(self, tmp_path: Path, name: str, data: bytes) -> None:
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(KeyDamagedError) as caught:
            _file_storage(name, tmp_path).read(KeyPlace.CURRENT)
        assert "c2VjcmV0" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_file_cut_off_after_any_byte_is_refused(self, tmp_path: Path) -> None:
        storage = PlainFileStorage(tmp_path)
        storage.write(KeyPlace.CURRENT, PrivateKey.generate())
        whole = (tmp_path / "key").read_bytes().strip()
        for length in range(len(whole)):
            (tmp_path / "key").write_bytes(whole[:length])
            with pytest.raises(KeyDamagedError):
                storage.read(KeyPlace.CURRENT)

    def test_folder_in_place_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "key").mkdir()
        storage = PlainFileStorage(tmp_path)
        with pytest.raises(KeyDamagedError, match="directory"):
            storage.read(KeyPlace.CURRENT)
        with pytest.raises(KeyStorageUnavailableError, match="can't be written"):
            storage.write(KeyPlace.CURRENT, PrivateKey.generate())


class TestSealed:
    def test_the_file_shows_neither_key_nor_passphrase(self, tmp_path: Path) -> None:
        key = PrivateKey.generate()
        SealedFileStorage(tmp_path, lambda: PASSPHRASE).write(KeyPlace.CURRENT, key)
        text = (tmp_path / "key.sealed").read_text()
        assert key_text(key) not in text
        assert key.raw.hex() not in text
        assert PASSPHRASE not in text
        document = json.loads(text)
        assert (document["kdf"], document["passes"], document["memory_kib"], document["lanes"]) == ("argon2id", 3, 65536, 4)

    def test_wrong_passphrase_is_told_without_it(self, tmp_path: Path) -> None:
        SealedFileStorage(tmp_path, lambda: PASSPHRASE).write(KeyPlace.CURRENT, PrivateKey.generate())
        with pytest.raises(PassphraseWrongError, match="does not open it") as caught:
            SealedFileStorage(tmp_path, lambda: "wrong and secret").read(KeyPlace.CURRENT)
        assert "wrong and secret" not in str(caught.value)

    @pytest.mark.parametrize("member", ["salt", "nonce", "ciphertext", "passes", "memory_kib", "lanes"])
    def test_each_member_is_authenticated(self, tmp_path: Path, member: str) -> None:
        storage = SealedFileStorage(tmp_path, lambda: PASSPHRASE)
        storage.write(KeyPlace.CURRENT, PrivateKey.generate())

        def change(value: Any) -> Any:
            return value + 1 if isinstance(value, int) else ("B" if value[0] == "A" else "A") + value[1:]

        _sealed_change(tmp_path, member, change)
        with pytest.raises(PassphraseWrongError):
            storage.read(KeyPlace.CURRENT)

    def test_pending_key_cannot_be_put_in_the_current_ones_place(self, tmp_path: Path) -> None:
        storage = SealedFileStorage(tmp_path, lambda: PASSPHRASE)
        storage.write(KeyPlace.PENDING, PrivateKey.generate())
        (tmp_path / "key.next.sealed").rename(tmp_path / "key.sealed")
        with pytest.raises(PassphraseWrongError):
            storage.read(KeyPlace.CURRENT)

    @pytest.mark.parametrize(
        ("member", "value"),
        [
            ("memory_kib", 2**31),
            ("passes", 10**6),
            ("lanes", 0),
            ("sealed_version", 2),
            ("kdf", "scrypt"),
            ("cipher", "none"),
            ("salt", "AAAA"),
            ("nonce", ""),
            ("ciphertext", "AAAA"),
            ("passes", "3"),
        ],
    )
    def test_what_no_key_is_sealed_with_is_refused_before_it_is_tried(self, tmp_path: Path, member: str, value: Any) -> None:
        storage = SealedFileStorage(tmp_path, lambda: pytest.fail("asked for the passphrase"))
        SealedFileStorage(tmp_path, lambda: PASSPHRASE).write(KeyPlace.CURRENT, PrivateKey.generate())
        _sealed_change(tmp_path, member, lambda _: value)
        with pytest.raises(KeyDamagedError, match="sealed key of version 1"):
            storage.read(KeyPlace.CURRENT)

    @settings(max_examples=100, deadline=None)
    @given(data=st.binary(max_size=300))
    def test_any_bytes_are_a_key_or_a_typed_refusal(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        folder = tmp_path_factory.mktemp("home")
        for name in ("key", "key.sealed"):
            path = folder / name
            path.write_bytes(data)
            path.chmod(0o600)
            try:
                _file_storage(name, folder).read(KeyPlace.CURRENT)
            except KeyStorageError:
                continue


class TestPassphrase:
    def test_first_line_of_a_file_of_ones_own(self, tmp_path: Path) -> None:
        path = tmp_path / "passphrase"
        path.write_text(f"{PASSPHRASE}\r\nand a note\n")
        path.chmod(0o600)
        assert passphrase_source(path)() == PASSPHRASE
        path.chmod(0o644)
        with pytest.raises(KeyDamagedError, match="chmod 600"):
            passphrase_source(path)()

    def test_file_that_holds_none(self, tmp_path: Path) -> None:
        path = tmp_path / "passphrase"
        with pytest.raises(KeyAbsentError):
            passphrase_source(path)()
        path.touch(mode=0o600)
        with pytest.raises(PassphraseMissingError, match="it is empty"):
            passphrase_source(path)()

    def test_short_one_seals_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "passphrase"
        path.write_text("short\n")
        path.chmod(0o600)
        choice = KeyStorageChoice.of(KeyStorageKind.SEALED, folder=tmp_path, passphrase_file=path)
        with pytest.raises(PassphraseMissingError, match="at least 8"):
            storage_open(choice, folder=tmp_path, new=True).write(KeyPlace.CURRENT, PrivateKey.generate())
        assert not (tmp_path / "key.sealed").exists()

    def test_nobody_to_ask_is_told_what_to_do(self) -> None:
        assert not sys.stdin.isatty()
        with pytest.raises(PassphraseMissingError, match="--passphrase-file"):
            passphrase_source(None)()


class TestKeyring:
    def test_the_keyring_of_the_session_is_used(self, session_keyring: MemoryKeyring, tmp_path: Path) -> None:
        choice = KeyStorageChoice.of(KeyStorageKind.KEYRING, folder=tmp_path)
        key = PrivateKey.generate()
        storage_open(choice, folder=tmp_path).write(KeyPlace.CURRENT, key)
        assert session_keyring.entries == {("nexapod", f"{choice.entry}/key"): key_text(key)}
        again = KeyStorageChoice.of(KeyStorageKind.KEYRING, folder=tmp_path)
        assert storage_open(again, folder=tmp_path).read(KeyPlace.CURRENT).raw == key.raw
        assert list(tmp_path.iterdir()) == []

    def test_locked_one_is_told_without_the_secret(self) -> None:
        backend = MemoryKeyring()
        storage = OsKeyringStorage("entry", backend)
        backend.locked = True
        key = PrivateKey.generate()
        for act in (
            lambda: storage.read(KeyPlace.CURRENT),
            lambda: storage.write(KeyPlace.CURRENT, key),
            lambda: storage.remove(KeyPlace.CURRENT),
        ):
            with pytest.raises(KeyStorageUnavailableError, match="Unlock it") as caught:
                act()
            assert key_text(key) not in str(caught.value)
            assert caught.value.__cause__ is None

    def test_entry_that_holds_something_else(self) -> None:
        backend = MemoryKeyring()
        backend.entries["nexapod", "entry/key"] = "c2VjcmV0IGJ5dGVz"
        with pytest.raises(KeyDamagedError) as caught:
            OsKeyringStorage("entry", backend).read(KeyPlace.CURRENT)
        assert "c2VjcmV0" not in str(caught.value)

    def test_session_without_one(self) -> None:
        before = keyring.get_keyring()
        keyring.set_keyring(fail.Keyring())  # type: ignore[no-untyped-call]  # untyped upstream
        try:
            with pytest.raises(KeyStorageUnavailableError, match="no keyring"):
                OsKeyringStorage("entry")
        finally:
            keyring.set_keyring(before)

    def test_library_that_is_not_installed_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "keyring", None)  # as Python has it for a module that can't be imported
        with pytest.raises(KeyStorageUnavailableError, match=r"pip install 'nexapod\[keyring\]'"):
            OsKeyringStorage("entry")


class TestSystemd:
    def test_credential_is_read_whatever_its_mode(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        key = PrivateKey.generate()
        (tmp_path / "nexa-key").write_text(key_text(key) + "\n")
        (tmp_path / "nexa-key").chmod(0o440)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        storage = storage_open(KeyStorageChoice(KeyStorageKind.SYSTEMD), folder=tmp_path / "home")
        assert storage.read(KeyPlace.CURRENT).raw == key.raw
        with pytest.raises(KeyAbsentError):
            storage.read(KeyPlace.PENDING)

    def test_it_is_never_written_or_removed(self, tmp_path: Path) -> None:
        storage = SystemdCredentialStorage(tmp_path)
        (tmp_path / "nexa-key").write_text(key_text(PrivateKey.generate()))
        with pytest.raises(KeyStorageUnavailableError, match="systemd-creds"):
            storage.write(KeyPlace.CURRENT, PrivateKey.generate())
        storage.remove(KeyPlace.CURRENT)
        assert (tmp_path / "nexa-key").exists()

    def test_process_that_systemd_gave_none(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
        storage = storage_open(KeyStorageChoice(KeyStorageKind.SYSTEMD), folder=tmp_path)
        with pytest.raises(KeyStorageUnavailableError, match="LoadCredentialEncrypted=nexa-key"):
            storage.read(KeyPlace.CURRENT)
        with pytest.raises(KeyAbsentError):
            SystemdCredentialStorage(tmp_path).read(KeyPlace.CURRENT)


def _file_storage(name: str, folder: Path) -> KeyStorage:
    return PlainFileStorage(folder) if name == "key" else SealedFileStorage(folder, lambda: PASSPHRASE)


def _sealed_change(folder: Path, member: str, change: Any) -> None:
    path = folder / "key.sealed"
    document = json.loads(path.read_text())
    document[member] = change(document[member])
    path.write_text(json.dumps(document))
