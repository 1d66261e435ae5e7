"""Which portal, and with which token: from the environment, else from the file that `nexa login` wrote."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


class LoginMissingError(Exception):
    """No portal is known; the message says how to name one."""


@dataclass(frozen=True)
class Login:
    """A portal's address, an API token for it, and the coordinator key that was pinned at login."""

    origin: str
    token: str
    coordinator_key_id: str


def login_path() -> Path:
    """Where `nexa login` keeps what it was told."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "nexa" / "client.json"


def login_load() -> Login:
    """NEXA_PORTAL and NEXA_TOKEN (or NEXA_TOKEN_FILE), else the file. Raises LoginMissingError."""
    origin = os.environ.get("NEXA_PORTAL")
    token = os.environ.get("NEXA_TOKEN")
    if token_file := os.environ.get("NEXA_TOKEN_FILE"):
        token = Path(token_file).read_text(encoding="utf-8").strip()
    if origin and token:
        return Login(origin, token, os.environ.get("NEXA_COORDINATOR", ""))
    try:
        document = json.loads(login_path().read_text(encoding="utf-8"))
        return Login(document["origin"], document["token"], document["coordinator_key_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LoginMissingError(
            f"No portal is known. Run `nexa login https://…`, or set NEXA_PORTAL and NEXA_TOKEN. ({login_path()}: {error})"
        ) from error


def login_save(login: Login) -> Path:
    """Keeps a login for later commands, in a file that only its owner can read."""
    path = login_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    document = {"origin": login.origin, "token": login.token, "coordinator_key_id": login.coordinator_key_id}
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
    return path
