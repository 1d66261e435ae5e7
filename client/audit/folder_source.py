"""A log as files: a mirror, with the layout of `/api/v1/` (`coordinator`, `ledger/checkpoint`, `ledger/tile/…`, `ledger/epochs`)."""

from __future__ import annotations

from pathlib import Path

from client.audit.errors import AbsentError, SourceError


class FolderSource:
    """Reads regular files below `folder`."""

    authority = None

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder = folder

    def read(self, path: str, *, limit_bytes: int) -> bytes:
        """The file's bytes. Raises AbsentError, SourceError."""
        place = self._folder / path
        try:
            if not place.is_file():  # a pipe would make us wait for ever
                raise AbsentError(f"{self.name} has no file {path}.")
            with place.open("rb") as file:
                data = file.read(limit_bytes + 1)
        except OSError as error:
            raise SourceError(f"{place} can't be read: {error.strerror}.") from error
        if len(data) > limit_bytes:
            raise SourceError(f"{place} is larger than the {limit_bytes} bytes that it may have.")
        return data
