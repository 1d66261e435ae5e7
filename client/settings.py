"""Which portal, and with which token: from the environment, else from the file that `nexa login` wrote."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

FILE_LIMIT_BYTES = 64 * 1024


class LoginMissingError(Exception):
    """No portal is known, or what is known can't be read; the message says how to name one."""


@dataclass(frozen=True)
class Login:
    """A portal's address, an API token for it, and the coordinator key that was pinned at login (empty: none). Its repr hides the token."""

    origin: str
    token: str = field(repr=False)
    coordinator_key_id: str


def login_path() -> Path:
    """Where `nexa login` keeps what it was told."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "nexa" / "client.json"


def login_load() -> Login:
    """NEXA_PORTAL and NEXA_TOKEN (or NEXA_TOKEN_FILE), else the file. Raises LoginMissingError."""
    origin = os.environ.get("NEXA_PORTAL")
    token = os.environ.get("NEXA_TOKEN")
    if origin and (token_file := os.environ.get("NEXA_TOKEN_FILE")):
        try:
            token = Path(token_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise LoginMissingError(f"NEXA_TOKEN_FILE names {token_file!r}, which can't be read: {_reason(error)}") from error
    if origin and token:
        return Login(origin, token, os.environ.get("NEXA_COORDINATOR", ""))
    if origin:
        raise LoginMissingError("NEXA_PORTAL is set without a token. Set NEXA_TOKEN or NEXA_TOKEN_FILE, or unset NEXA_PORTAL.")
    return _login_read(login_path())


def coordinator_key_id_pinned() -> str:
    """The coordinator's key id that was pinned: NEXA_COORDINATOR, else by login. Raises LoginMissingError."""
    if found := os.environ.get("NEXA_COORDINATOR"):
        return found
    try:
        if key_id := _login_read(login_path()).coordinator_key_id:
            return key_id
    except LoginMissingError as error:
        raise LoginMissingError(
            "No coordinator's key is pinned: give --coordinator sha256:…, from a place you trust, or log in."
        ) from error
    raise LoginMissingError(f"{login_path()} pins no coordinator's key: give --coordinator sha256:…, from a place you trust.")


def coordinator_key_id_known(*, authority: str) -> str | None:
    """NEXA_COORDINATOR, else what was pinned at a login to the portal at `authority` (host:port); None if neither."""
    if found := os.environ.get("NEXA_COORDINATOR"):
        return found
    try:
        login = login_load()
        return login.coordinator_key_id or None if authority_of(login.origin) == authority else None
    except (LoginMissingError, ValueError):
        return None


def authority_of(origin: str) -> str:
    """Host and port of an address, in one spelling. Raises ValueError."""
    parts = urlsplit(origin)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    if not parts.hostname:
        raise ValueError(f"expected an address as https://host; found {origin[:200]!r}")
    return f"{parts.hostname}:{parts.port or default}"


def login_save(login: Login) -> Path:
    """Keeps a login for later commands, in a file that only its owner can read, replaced in one step. Raises LoginMissingError."""
    path = login_path()
    document = {"origin": login.origin, "token": login.token, "coordinator_key_id": login.coordinator_key_id}
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".client-")  # 0600 from the first byte
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise LoginMissingError(f"{path} can't be written: {_reason(error)}") from error
    return path


def _login_read(path: Path) -> Login:
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise LoginMissingError(
                    f"Others may read {path}, which holds an API token. Run `chmod 600 {path}`; better, log in with a new token."
                )
            document = json.loads(file.read(FILE_LIMIT_BYTES))
        values = [document[name] for name in ("origin", "token", "coordinator_key_id")]
    except FileNotFoundError as error:
        raise LoginMissingError(
            f"No portal is known: there is no {path}. Run `nexa login https://…`, or set NEXA_PORTAL and NEXA_TOKEN."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise LoginMissingError(f"{path} can't be read: {_reason(error)} Run `nexa login https://…` again.") from error
    if not all(isinstance(value, str) for value in values):
        raise LoginMissingError(f"{path} is not what `nexa login` writes. Run `nexa login https://…` again.")
    return Login(*values)


def _reason(error: Exception) -> str:
    """Why, without what the file holds: it may be a token."""
    return f"{error.strerror}." if isinstance(error, OSError) else f"it is not what was expected ({type(error).__name__})."
