"""Files that only their owner may read, written so that a crash leaves the old content or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from workers.home_errors import KeyAbsentError, KeyDamagedError, KeyStorageUnavailableError

_LIMIT_BYTES = 64 * 1024


def secret_read(path: Path, *, private: bool = True) -> str:
    """The text of a file that nobody else may read; `private` False: its folder sees to that. Raises KeyAbsentError, KeyDamagedError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(_LIMIT_BYTES)
    except FileNotFoundError:
        raise KeyAbsentError(f"{path}: expected a file that can be read; there is none.") from None
    except OSError as error:
        raise KeyDamagedError(f"{path}: expected a file that can be read; found {error.strerror or 'an error'}.") from error
    if private and mode & 0o077:
        raise KeyDamagedError(f"{path}: expected a file that only you can read (`chmod 600`); found mode {mode:03o}.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise KeyDamagedError(f"{path}: expected text in UTF-8; found other bytes.") from None


def secret_write(path: Path, text: str) -> None:
    """Replace the file, mode 0600, in a folder that is made if needed. Raises KeyStorageUnavailableError."""
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        folder_sync(path.parent)
    except OSError as error:
        raise KeyStorageUnavailableError(f"{path} can't be written: {error.strerror or 'an error'}.") from error


def folder_sync(folder: Path) -> None:
    """Make what was renamed in `folder` outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
