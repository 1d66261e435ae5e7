"""The node home: the one folder (`$NEXA_HOME`, else `~/.nexa`) that makes a machine a node.

    node.json        who this node is and which coordinator it trusts (NodeIdentity), written by `nexa join`
    key              the node's key, unless it is kept elsewhere (see workers/keystore/)
    node.toml        what the contributor lends (see workers/caps.py); may be missing
    intent.json      what the contributor told this node to do (see workers/intent.py); missing until then
    profile.json     the newest profile of the machine, with its benchmark
    journal.sqlite   what the worker has taken on (see workers/journal.py)
    work/  cache/    folders of running leases; inputs by digest
    lock             held by the running worker

Reading here never changes anything but the lock, and what a rotation of the key left half done. Errors: workers/home_errors.py.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from workers.home_errors import (
    HomeDamagedError,
    HomeError,
    HomeExistsError,
    HomeLockedError,
    HomeMissingError,
    HomeUnlockableError,
    KeyAbsentError,
    KeyDamagedError,
    KeyRotationUnfinishedError,
)
from workers.home_place import HomePlace, place_check, place_of
from workers.keystore.choice import KeyStorageChoice, storage_open
from workers.keystore.interface import KeyPlace, KeyStorage
from workers.keystore.secret_file import folder_sync
from workers.protocol.digests import Digest
from workers.protocol.errors import KeyMalformedError
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.machine import NodeProfile, Tier

__all__ = [
    "HomeDamagedError",
    "HomeError",
    "HomeExistsError",
    "HomeLock",
    "HomeLockedError",
    "HomeMissingError",
    "HomeUnlockableError",
    "NodeHome",
    "NodeIdentity",
    "portal_origin_parse",
]


class NodeIdentity(BaseModel):
    """`node.json`: no secret is in it. `coordinator_key` was pinned at join: orders are believed under that key only.

    `key_id` decides which key is the node's while a rotation is half done. `place` is where the home was when the node joined, or when its
    key was last rotated. `coordinator_predecessors` were pinned before, oldest first; each signed its successor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    portal: str
    node_id: UUID
    key_id: Digest
    coordinator_key: str
    tier: Tier
    queues: tuple[Tier, ...]
    name: str
    owner: str = ""
    place: HomePlace
    key_storage: KeyStorageChoice = KeyStorageChoice()
    coordinator_predecessors: tuple[str, ...] = ()


class HomeLock:
    """The claim of one worker on a node home; the operating system drops it with the process, however that ends."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def release(self) -> None:
        """Let go; may be called again."""
        self._file.close()


class NodeHome:
    """A node home that may or may not have been joined. Does not keep anything open but what `lock` returns."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def default(cls) -> Self:
        """`$NEXA_HOME`, else `~/.nexa`. The one place of `workers` that reads where the home is."""
        return cls(Path(os.environ.get("NEXA_HOME") or Path.home() / ".nexa").absolute())

    @property
    def journal_path(self) -> Path:
        return self.folder / "journal.sqlite"

    @property
    def settings_path(self) -> Path:
        return self.folder / "node.toml"

    @property
    def work_folder(self) -> Path:
        return self.folder / "work"

    @property
    def cache_folder(self) -> Path:
        return self.folder / "cache"

    @property
    def joined(self) -> bool:
        return (self.folder / "node.json").exists()

    def free_check(self) -> None:
        """Return if nothing has joined here. Raises HomeExistsError."""
        if self.joined:
            raise HomeExistsError(
                f"{self.folder} already holds a node. See it with `nexa status`; to join anew, first `nexa leave`, "
                "or give the new node a folder of its own in NEXA_HOME."
            )

    def write(self, *, identity: NodeIdentity, profile: NodeProfile) -> None:
        """Make this folder the home of the node whose key is stored; `node.json` comes last, so that a home is whole or not there."""
        self.profile_write(profile)
        self.identity_write(identity)

    def identity_write(self, identity: NodeIdentity) -> None:
        """Replace `node.json`. Only for who holds the lock, or is about to join."""
        self._replace("node.json", identity.model_dump_json(indent=2) + "\n")

    def identity(self) -> NodeIdentity:
        """Raises HomeMissingError, HomeDamagedError."""
        text = self._read("node.json")
        try:
            identity = NodeIdentity.model_validate_json(text)
            for key in (identity.coordinator_key, *identity.coordinator_predecessors):
                PublicKey.from_base64(key)
        except (ValidationError, KeyMalformedError) as error:
            raise self._damaged("node.json", "the node's identity as `nexa join` wrote it", str(error)) from error
        return identity

    def place_check(self) -> None:
        """Return if this is where the node joined. Raises HomeMissingError, HomeDamagedError, HomeCopiedError."""
        place_check(self.folder, recorded=self.identity().place, found=place_of(self.folder))

    def key_storage(self) -> KeyStorage:
        """Where the node's key is kept. Raises HomeMissingError, HomeDamagedError, KeyStorageUnavailableError."""
        return storage_open(self.identity().key_storage, folder=self.folder)

    def key(self, storage: KeyStorage | None = None) -> PrivateKey:
        """The node's key; `storage`: what `key_storage` gave before, which has asked for a passphrase already.

        Raises HomeMissingError, HomeDamagedError, KeyStorageError, KeyRotationUnfinishedError.
        """
        identity, storage = self.identity(), storage or self.key_storage()
        try:
            pending = storage.read(KeyPlace.PENDING)
        except KeyAbsentError:
            key = storage.read(KeyPlace.CURRENT)
            if key.public.key_id != identity.key_id:
                raise KeyDamagedError(
                    f"{self.folder}: expected the key {identity.key_id}, as node.json says; its storage ({storage.kind}) holds the key "
                    f"{key.public.key_id}. One of them is of another node, or of an older backup."
                ) from None
            return key
        if pending.public.key_id != identity.key_id:
            raise KeyRotationUnfinishedError(
                f"{self.folder}: a rotation of the node's key was begun, and its end is not known here. Run `nexa key rotate` again."
            )
        # The portal has confirmed it, and the rotating process died before it could put the key in its place.
        storage.write(KeyPlace.CURRENT, pending)
        storage.remove(KeyPlace.PENDING)
        return pending

    def profile_write(self, profile: NodeProfile) -> None:
        """Keep the newest profile."""
        self._replace("profile.json", profile.model_dump_json(indent=2) + "\n")

    def profile(self) -> NodeProfile:
        """The newest kept profile. Raises HomeMissingError, HomeDamagedError."""
        text = self._read("profile.json")
        try:
            return NodeProfile.model_validate_json(text)
        except ValidationError as error:
            raise self._damaged("profile.json", "the machine's profile as `nexa join` wrote it", str(error)) from error

    def lock(self) -> HomeLock:
        """Claim the home for this process. Raises HomeMissingError, HomeLockedError, HomeUnlockableError."""
        if not self.joined:
            raise self._missing()
        file = (self.folder / "lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                file.close()
                raise HomeUnlockableError(
                    f"The file system of the node home {self.folder} can't lock a file ({error.strerror or error}), as some network file "
                    "systems can't, and without a lock two workers could run on one home. Have NEXA_HOME on a local disk."
                ) from error
            file.seek(0)
            holder = file.read(20).strip() or "unknown"
            file.close()
            raise HomeLockedError(
                f"Another worker (process {holder}) runs on the node home {self.folder}, and only one may. "
                "Stop that one first, or join a second node with a NEXA_HOME of its own."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        return HomeLock(file)

    def forget(self) -> None:
        """Remove identity and key: this machine is no node any more. Keeps node.toml and the journal. Raises KeyStorageUnavailableError."""
        storage = self.key_storage()
        (self.folder / "node.json").unlink(missing_ok=True)
        for place in KeyPlace:
            storage.remove(place)

    def _read(self, name: str) -> str:
        if not self.joined:
            raise self._missing()
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError as error:
            raise self._damaged(name, "a file that can be read", error.strerror or "an error") from error
        except UnicodeDecodeError:
            raise self._damaged(name, "text in UTF-8", "other bytes") from None

    def _replace(self, name: str, text: str) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.folder / f".{name}.new"
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / name)
        folder_sync(self.folder)

    def _missing(self) -> HomeMissingError:
        return HomeMissingError(
            f"No node has joined in {self.folder}. Get a token on the portal's page for contributors and run `nexa join TOKEN`, "
            "or point NEXA_HOME at the folder of a node that has."
        )

    def _damaged(self, name: str, expected: str, found: str) -> HomeDamagedError:
        return HomeDamagedError(f"{self.folder / name}: expected {expected}; found {found}.")


def portal_origin_parse(text: str) -> str:
    """`text` as an origin, without a trailing slash: https, or http where the portal is this machine. Raises HomeError."""
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        port = parts.port
    except ValueError as error:
        raise HomeError(f"The portal's address {text!r} can't be read: {error}.") from error
    loopback = host in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        raise HomeError(f"The portal's address must start with https:// (http:// on this machine only); found {text!r}.")
    if not host or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc or port == 0:
        raise HomeError(f"The portal's address is a scheme, a host and perhaps a port, nothing else; found {text!r}.")
    return f"{parts.scheme}://{parts.netloc}"
