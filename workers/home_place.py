"""Where a node home is: which machine, which folder. A copy of a home is elsewhere, which is how it is told from the original.

1. A home is in its place if its folder has the inode that it had when the node joined, or when its key was last rotated.
2. If the machine's id was known then and is known now, it must be the same. It may be absent (containers).

Device numbers are not compared: they differ from one boot to the next. A folder renamed within its file system stays in its place. What
this can't see is a copy of the whole disk, whose inodes and machine id are the original's; the coordinator sees that one
(docs/host-keys.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict

from workers.home_errors import HomeCopiedError
from workers.protocol.digests import Digest, digest_of

MACHINE_ID_PATH: Final = Path("/etc/machine-id")


class HomePlace(BaseModel):
    """`machine` is a digest of the machine's id, which machine-id(5) asks to keep to oneself; None where it has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder_inode: int
    machine: Digest | None


def place_of(folder: Path, *, machine_id_path: Path = MACHINE_ID_PATH) -> HomePlace:
    """The place of `folder`, which is made if it isn't there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        machine_id = machine_id_path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine_id = ""
    return HomePlace(folder_inode=folder.stat().st_ino, machine=digest_of(f"nexapod home on {machine_id}".encode()) if machine_id else None)


def place_check(folder: Path, *, recorded: HomePlace, found: HomePlace) -> None:
    """Return if the home is where it was. Raises HomeCopiedError."""
    machines = {recorded.machine, found.machine} - {None}
    if recorded.folder_inode == found.folder_inode and len(machines) < 2:
        return
    what = "another folder" if len(machines) < 2 else "another machine"
    raise HomeCopiedError(
        f"{folder}: this node home was copied or moved: it is in {what} than where its node joined. A key may be in one place only. "
        "If you moved it (or restored it from a backup), `nexa key rotate` here makes every copy worthless; if you want a second node, "
        "join it with a token of its own in a folder of its own."
    )
