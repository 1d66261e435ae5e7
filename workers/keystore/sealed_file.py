"""`sealed`: the key in a file, encrypted under a passphrase.

The file is one line of JSON, version 1. The passphrase (UTF-8) and a random salt go through Argon2id (RFC 9106); its 32 bytes are the key
of ChaCha20-Poly1305 (RFC 8439), whose plaintext is the 32 secret bytes. Everything else in the file is authenticated with it: version,
Argon2's parameters, salt, nonce, and the place, so that no field can be exchanged, and a pending key not be put in the current one's place.

Parameters come from the file, within bounds: a file that asks for 100 GiB of memory is refused, not tried.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from workers.home_errors import KeyDamagedError, PassphraseWrongError
from workers.keystore.interface import KeyPlace, KeyStorageKind
from workers.keystore.secret_file import secret_read, secret_write
from workers.protocol.canonical import canonical_json
from workers.protocol.errors import KeyMalformedError
from workers.protocol.keys import KEY_BYTES, PrivateKey
from workers.protocol.strict_base64 import base64_decode, base64_encode

SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
PASSES: Final = 3
MEMORY_KIB: Final = 64 * 1024
LANES: Final = 4
"""RFC 9106, section 4: the second recommended choice, for machines that can't spare 2 GiB."""

_BASE64 = StringConstraints(max_length=128)


class _Seal(BaseModel):
    """The file but for its ciphertext: what is authenticated."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sealed_version: Literal[1] = 1
    kdf: Literal["argon2id"] = "argon2id"
    passes: int = Field(default=PASSES, ge=1, le=16)
    memory_kib: int = Field(default=MEMORY_KIB, ge=8 * 16, le=1024 * 1024)
    lanes: int = Field(default=LANES, ge=1, le=16)
    cipher: Literal["chacha20-poly1305"] = "chacha20-poly1305"
    salt: Annotated[str, _BASE64]
    nonce: Annotated[str, _BASE64]


class _SealedKey(_Seal):
    """The file."""

    ciphertext: Annotated[str, _BASE64]


class SealedFileStorage:
    """Files `key.sealed` and `key.next.sealed` in `folder`. Asks `passphrase` each time that it needs it, and keeps it nowhere."""

    kind: ClassVar[KeyStorageKind] = KeyStorageKind.SEALED

    def __init__(self, folder: Path, passphrase: Callable[[], str]) -> None:
        self._folder = folder
        self._passphrase = passphrase

    def read(self, place: KeyPlace) -> PrivateKey:
        """Raises also PassphraseMissingError, PassphraseWrongError."""
        path = self._path(place)
        text = secret_read(path)
        try:
            sealed = _SealedKey.model_validate_json(text)
            salt, nonce = _bytes_of(sealed.salt, SALT_BYTES), _bytes_of(sealed.nonce, NONCE_BYTES)
            ciphertext = _bytes_of(sealed.ciphertext, KEY_BYTES + TAG_BYTES)
        except (ValidationError, ValueError):
            raise KeyDamagedError(f"{path}: expected a sealed key of version 1; found {len(text)} characters of something else.") from None
        seal = _Seal.model_validate(sealed.model_dump(exclude={"ciphertext"}))
        try:
            return PrivateKey.from_raw(self._cipher(seal, salt).decrypt(nonce, ciphertext, _authenticated(seal, place)))
        except (InvalidTag, KeyMalformedError):
            raise PassphraseWrongError(
                f"{path}: the passphrase does not open it, or the file was changed. Without the passphrase nothing can open it: "
                "then `nexa leave`, or remove the file, and join anew."
            ) from None

    def write(self, place: KeyPlace, key: PrivateKey) -> None:
        """Raises also PassphraseMissingError."""
        salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
        seal = _Seal(salt=base64_encode(salt), nonce=base64_encode(nonce))
        ciphertext = self._cipher(seal, salt).encrypt(nonce, key.raw, _authenticated(seal, place))
        sealed = _SealedKey(**seal.model_dump(), ciphertext=base64_encode(ciphertext))
        secret_write(self._path(place), sealed.model_dump_json() + "\n")

    def remove(self, place: KeyPlace) -> None:
        self._path(place).unlink(missing_ok=True)

    def _path(self, place: KeyPlace) -> Path:
        return self._folder / f"{place}.sealed"

    def _cipher(self, seal: _Seal, salt: bytes) -> ChaCha20Poly1305:
        kdf = Argon2id(salt=salt, length=32, iterations=seal.passes, lanes=seal.lanes, memory_cost=seal.memory_kib)
        return ChaCha20Poly1305(kdf.derive(self._passphrase().encode()))


def _bytes_of(text: str, length: int) -> bytes:
    data = base64_decode(text)
    if len(data) != length:
        raise ValueError(f"expected {length} bytes, found {len(data)}")
    return data


def _authenticated(seal: _Seal, place: KeyPlace) -> bytes:
    return canonical_json({**seal.model_dump(), "place": place.value})
