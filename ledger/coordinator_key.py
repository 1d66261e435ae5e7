"""The coordinator's Ed25519 key: it signs orders and checkpoints. Web and conclude processes hold it, verify workers its public half."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.conf import settings

from workers.protocol.errors import VerificationError
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.strict_base64 import base64_decode


class CoordinatorKeyMissingError(Exception):
    """This process was not given the key that it needs; the message names the setting."""


@cache
def coordinator_private_key() -> PrivateKey:
    """The key in NEXA_COORDINATOR_KEY_FILE, read once. Raises CoordinatorKeyMissingError."""
    if not settings.NEXA_COORDINATOR_KEY_FILE:
        raise CoordinatorKeyMissingError("This process has no signing key: NEXA_COORDINATOR_KEY_FILE is not set.")
    return key_file_read(Path(settings.NEXA_COORDINATOR_KEY_FILE))


def key_file_read(path: Path) -> PrivateKey:
    """The key in a file such as NEXA_COORDINATOR_KEY_FILE names. Raises CoordinatorKeyMissingError, which repeats nothing of the file."""
    try:
        return PrivateKey.from_raw(base64_decode(path.read_text(encoding="ascii").strip()))
    except (OSError, ValueError, VerificationError) as error:
        raise CoordinatorKeyMissingError(
            f"NEXA_COORDINATOR_KEY_FILE: expected a file with the base64 of 32 bytes at {path}; {error}."
        ) from error


@cache
def coordinator_previous_key() -> PrivateKey | None:
    """The key in NEXA_COORDINATOR_PREVIOUS_KEY_FILE, which signs checkpoints too while it is given; an empty file is none.

    Raises CoordinatorKeyMissingError.
    """
    path = settings.NEXA_COORDINATOR_PREVIOUS_KEY_FILE
    if not path or (Path(path).exists() and not Path(path).stat().st_size):  # under compose the file is always there
        return None
    return key_file_read(Path(path))


@cache
def coordinator_public_key() -> PublicKey:
    """The public half, from NEXA_COORDINATOR_PUBLIC_KEY or from the key file. Raises CoordinatorKeyMissingError."""
    if not settings.NEXA_COORDINATOR_PUBLIC_KEY:
        return coordinator_private_key().public
    try:
        return PublicKey.from_base64(settings.NEXA_COORDINATOR_PUBLIC_KEY)
    except VerificationError as error:
        raise CoordinatorKeyMissingError(f"NEXA_COORDINATOR_PUBLIC_KEY: {error}") from error
