"""Where the coordinator's key comes from, and what is said when it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from ledger.coordinator_key import CoordinatorKeyMissingError, coordinator_private_key, coordinator_public_key
from tests.services import COORDINATOR_KEY_RAW
from workers.protocol.keys import PrivateKey


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """Both are read once a process; each test here is a process of its own in that respect."""
    for one in (coordinator_private_key, coordinator_public_key):
        one.cache_clear()
    yield
    for one in (coordinator_private_key, coordinator_public_key):
        one.cache_clear()


def test_key_file_gives_both_halves() -> None:
    expected = PrivateKey.from_raw(COORDINATOR_KEY_RAW)
    assert coordinator_private_key().public.key_id == expected.public.key_id
    assert coordinator_public_key().key_id == expected.public.key_id


def test_public_key_alone_is_enough_to_verify(settings: Settings) -> None:
    public = PrivateKey.generate().public
    settings.NEXA_COORDINATOR_KEY_FILE = ""
    settings.NEXA_COORDINATOR_PUBLIC_KEY = public.to_base64()
    assert coordinator_public_key().key_id == public.key_id
    with pytest.raises(CoordinatorKeyMissingError, match="NEXA_COORDINATOR_KEY_FILE is not set"):
        coordinator_private_key()


def test_public_key_that_is_none_is_named(settings: Settings) -> None:
    settings.NEXA_COORDINATOR_PUBLIC_KEY = "AAAA"
    with pytest.raises(CoordinatorKeyMissingError, match="NEXA_COORDINATOR_PUBLIC_KEY"):
        coordinator_public_key()


@pytest.mark.parametrize("content", [None, "", "AAAA", "not base64!", "\N{SNOWMAN}"])
def test_key_file_that_holds_none_is_named_without_its_content(settings: Settings, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    settings.NEXA_COORDINATOR_KEY_FILE = path
    with pytest.raises(CoordinatorKeyMissingError, match="base64 of 32 bytes") as caught:
        coordinator_private_key()
    assert not content or content not in str(caught.value)
