"""Each of these tests has a portal of its own: database, blob store, log and key."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.nexaportal.backup.places import caches_clear


@pytest.fixture(autouse=True)
def _own_place(own_database: str, settings: Any, tmp_path: Path) -> Iterator[None]:
    """Store, log and key of this test's own."""
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path / "blobs"}},
    }
    settings.NEXA_BLOB_ROOT = tmp_path / "blobs"
    settings.NEXA_LOG_ROOT = tmp_path / "log"
    key = tmp_path / "coordinator.key"
    shutil.copy(settings.NEXA_COORDINATOR_KEY_FILE, key)
    settings.NEXA_COORDINATOR_KEY_FILE = key
    caches_clear()
    yield
    caches_clear()
