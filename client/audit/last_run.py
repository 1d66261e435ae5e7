"""What an auditor remembers between runs: of each log the newest checkpoint that it verified. Who signs another history later is caught.

A small JSON file for each log in the user's state folder, readable by its owner only, replaced in one step. Two signed notes that
contradict each other are kept beside it: they are the proof.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from client.audit.errors import MemoryUnusableError
from client.audit.trust import checkpoint_open
from workers.protocol.canonical import json_parse
from workers.protocol.digests import sha256_hex
from workers.protocol.errors import VerificationError
from workers.protocol.keys import PublicKey
from workers.protocol.signed_note import Checkpoint

_FILE_LIMIT_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class LastRun:
    """The newest verified checkpoint: its note as it was signed, and the key that signed it."""

    note: bytes
    checkpoint: Checkpoint
    key: PublicKey


def state_folder() -> Path:
    """Where the files are: below XDG_STATE_HOME, else ~/.local/state."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "nexa" / "audit"


class Memory:
    """The last runs, in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, log: str) -> LastRun | None:
        """What was kept of the log that is named `log` in its first epoch; None before the first audit. Raises MemoryUnusableError."""
        path = self.path(log)
        try:
            with path.open("rb") as file:
                document = json_parse(file.read(_FILE_LIMIT_BYTES), limit_bytes=_FILE_LIMIT_BYTES)
            key = PublicKey.from_base64(document["key"])
            note = document["note"].encode("utf-8")
            return LastRun(note, *checkpoint_open(note, log=document["origin"], keys=(key,)))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MemoryUnusableError(f"{path} can't be read: {error.strerror}.") from error
        except (VerificationError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MemoryUnusableError(
                f"{path} is not what an audit writes ({type(error).__name__}: {error}). Without it a forked history can't be noticed: "
                "restore the file, or remove it to start anew."
            ) from error

    def save(self, log: str, run: LastRun) -> None:
        """Keeps `run` in the place of an earlier one. Raises MemoryUnusableError."""
        document = {
            "origin": run.checkpoint.origin,
            "note": run.note.decode("utf-8"),
            "key": run.key.to_base64(),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._write(self.path(log), json.dumps(document, indent=2) + "\n")

    def contradiction_keep(self, log: str, before: LastRun | None, now: LastRun, epochs: bytes) -> Path:
        """Keeps what can't all be honest: two notes, and the document of the epochs. Returns where. Raises MemoryUnusableError."""
        runs = [run for run in (before, now) if run is not None]
        parts = [f"signed by {run.key.key_id} ({run.key.to_base64()}):\n\n{run.note.decode('utf-8')}" for run in runs]
        text = "\n".join([*parts, *([f"epochs:\n\n{epochs.decode('utf-8', 'replace')}\n"] if epochs else [])])
        path = self._folder / f"{_name(log)}.fork-{sha256_hex(text.encode('utf-8'))[:16]}.txt"
        self._write(path, text)
        return path

    def path(self, log: str) -> Path:
        """The file of a log."""
        return self._folder / f"{_name(log)}.json"

    def _write(self, path: Path, text: str) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=".audit-")  # 0600 from the first byte
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise MemoryUnusableError(f"{path} can't be written: {error.strerror}.") from error


def _name(log: str) -> str:
    """A file name for a log: readable, and another one for each."""
    return f"{re.sub(r'[^A-Za-z0-9.-]', '_', log).lstrip('.')[:80]}-{sha256_hex(log.encode('utf-8'))[:8]}"
