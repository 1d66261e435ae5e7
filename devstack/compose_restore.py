"""Backup, loss and restore of a portal under Compose, as docs/operations.md has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from devstack.compose import UP, Compose, ComposeError

SERVERS: Final = ("proxy", "web", "control", "verify", "conclude", "beat")
LOST: Final = (*SERVERS, "migrate", "database", "redis")
"""Containers that are gone, and with them what holds on to the volumes."""
VOLUMES_LOST: Final = ("database", "blobs")
RESTORE_SECONDS: Final = 600


def backup_make(compose: Compose) -> str:
    """Makes a backup while the portal runs; its folder, as `manage` sees it. Raises ComposeError."""
    said = compose.run("run", "--rm", "-T", "manage", "backup_make", "/backups", limit_seconds=RESTORE_SECONDS)
    made = said.strip().splitlines()[-1].removeprefix("Backup: ")
    if not made.startswith("/backups/"):
        raise ComposeError(f"Expected backup_make to end with the backup's folder; found:\n{said}")
    compose.run("run", "--rm", "-T", "manage", "backup_restore", made, "--check", limit_seconds=RESTORE_SECONDS)
    return made


def portal_lose(compose: Compose, *, volume_remove: Callable[[str], None]) -> None:
    """The portal's containers, its database and its blobs are gone. What it published, its secrets and the backups are elsewhere."""
    compose.run("rm", "--stop", "--force", *LOST)
    for name in VOLUMES_LOST:
        volume_remove(name)


def portal_restore(compose: Compose, made: str, *, reason: str) -> str:
    """Restores the backup and starts everything; what the restore said last of the ledger. Raises ComposeError."""
    said = compose.run("run", "--rm", "-T", "manage", "backup_restore", made, "--reason", reason, limit_seconds=RESTORE_SECONDS)
    compose.run(*UP, *SERVERS, limit_seconds=RESTORE_SECONDS)
    compose.run("run", "--rm", "-T", "manage", "ledger_verify", limit_seconds=RESTORE_SECONDS)
    (agreed,) = [line for line in said.splitlines() if line.startswith("Database, log and files agree.")]
    return agreed
