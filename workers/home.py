"""The node home: the one folder (`$NEXA_HOME`, else `~/.nexa`) that makes a machine a node.

    node.json        who this node is and which coordinator it trusts (NodeIdentity), written by `nexa join`
    key              base64 of the 32 secret bytes, mode 0600
    node.toml        what the contributor lends (see workers/caps.py); may be missing
    intent.json      what the contributor told this node to do (see workers/intent.py); missing until then
    profile.json     the newest profile of the machine, with its benchmark
    journal.sqlite   what the worker has taken on (see workers/journal.py)
    work/  cache/    folders of running leases; inputs by digest
    lock             held by the running worker

Reading here never changes anything but the lock. Errors, all of them for the contributor to read:

    HomeError
    ├── HomeMissingError      nothing has joined here
    ├── HomeExistsError       something has
    ├── HomeDamagedError      a file is unreadable, malformed, or open to others
    └── HomeLockedError       another worker runs on it
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Self
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from workers.protocol.digests import Digest
from workers.protocol.errors import KeyMalformedError
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages import NodeProfile, Tier
from workers.protocol.strict_base64 import base64_decode, base64_encode


class HomeError(Exception):
    """The node home is not as this command needs it; the message says what to do."""


class HomeMissingError(HomeError):
    """No node has joined in this folder."""


class HomeExistsError(HomeError):
    """A node has joined in this folder already."""


class HomeDamagedError(HomeError):
    """A file of the node home cannot be used."""


class HomeLockedError(HomeError):
    """Another worker holds this node home."""


class NodeIdentity(BaseModel):
    """`node.json`: no secret is in it. `coordinator_key` was pinned at join: orders are believed under that key only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    portal: str
    node_id: UUID
    key_id: Digest
    coordinator_key: str
    tier: Tier
    queues: tuple[Tier, ...]
    name: str
    owner: str = ""


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

    def write(self, *, identity: NodeIdentity, key: PrivateKey, profile: NodeProfile) -> None:
        """Make this folder the home of the node; `node.json` comes last, so that a home is whole or not there."""
        self.key_write(key)
        self.profile_write(profile)
        self._replace("node.json", identity.model_dump_json(indent=2) + "\n", mode=0o644)

    def identity(self) -> NodeIdentity:
        """Raises HomeMissingError, HomeDamagedError."""
        text = self._read("node.json")
        try:
            identity = NodeIdentity.model_validate_json(text)
            PublicKey.from_base64(identity.coordinator_key)
        except (ValidationError, KeyMalformedError) as error:
            raise self._damaged("node.json", "the node's identity as `nexa join` wrote it", str(error)) from error
        return identity

    def key_write(self, key: PrivateKey) -> None:
        """Keep `key`, readable by the owner of the folder only; makes the folder."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._replace("key", base64_encode(key.raw) + "\n", mode=0o600)

    def key_pending(self) -> PrivateKey | None:
        """The key of a join that got no answer, so that trying again registers the same node; None without one."""
        return None if self.joined or not (self.folder / "key").exists() else self.key()

    def key(self) -> PrivateKey:
        """The node's key. Raises HomeMissingError, HomeDamagedError (also when others may read the file)."""
        text = self._read("key")
        mode = (self.folder / "key").stat().st_mode & 0o777
        if mode & 0o077:
            raise self._damaged("key", "a file that only you can read (`chmod 600`)", f"mode {mode:03o}")
        try:
            return PrivateKey.from_raw(base64_decode(text.strip()))
        except (ValueError, KeyMalformedError):
            # The text is the secret: it goes into no message, and no cause is chained that would carry it.
            raise self._damaged("key", "base64 of 32 bytes", f"{len(text)} characters of something else") from None

    def profile_write(self, profile: NodeProfile) -> None:
        """Keep the newest profile."""
        self._replace("profile.json", profile.model_dump_json(indent=2) + "\n", mode=0o644)

    def profile(self) -> NodeProfile:
        """The newest kept profile. Raises HomeMissingError, HomeDamagedError."""
        text = self._read("profile.json")
        try:
            return NodeProfile.model_validate_json(text)
        except ValidationError as error:
            raise self._damaged("profile.json", "the machine's profile as `nexa join` wrote it", str(error)) from error

    def lock(self) -> HomeLock:
        """Claim the home for this process. Raises HomeMissingError, HomeLockedError."""
        if not self.joined:
            raise self._missing()
        file = (self.folder / "lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
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
        """Remove key and identity: this machine is no node any more. Keeps node.toml and the journal."""
        for name in ("node.json", "key"):
            (self.folder / name).unlink(missing_ok=True)

    def _read(self, name: str) -> str:
        if name != "key" and not self.joined:
            raise self._missing()
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except OSError as error:
            raise self._damaged(name, "a file that can be read", error.strerror or "an error") from error
        except UnicodeDecodeError:
            raise self._damaged(name, "text in UTF-8", "other bytes") from None

    def _replace(self, name: str, text: str, *, mode: int) -> None:
        new = self.folder / f".{name}.new"
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.folder / name)

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
