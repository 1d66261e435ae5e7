"""Archives in memory, opened as the results browser opens them."""

from __future__ import annotations

import io
from collections.abc import Mapping

from jobs.results.archive_index import ArchiveIndex, IndexedFile
from tests.factories.receipts import archive_make


def opened(files: Mapping[str, bytes]) -> ArchiveIndex:
    return ArchiveIndex(io.BytesIO(archive_make(files)[0]))


def only(data: bytes, path: str = "a") -> tuple[ArchiveIndex, IndexedFile]:
    """An archive of one file, and that file."""
    index = opened({path: data})
    return index, index.files[0]
