"""`keyring`: the keyring of the operating system, through the library `keyring`: Secret Service, KWallet, macOS Keychain, Windows' own.

The library is no part of an ordinary installation: most hosts are servers, which have no keyring.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from workers.home_errors import KeyAbsentError, KeyStorageUnavailableError
from workers.keystore.interface import KeyPlace, KeyStorageKind, key_of_text, key_text
from workers.protocol.keys import PrivateKey

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE: Final = "nexapod"


class OsKeyringStorage:
    """Entries `<entry>/key` and `<entry>/key.next` of the service `nexapod`. The keyring must be unlocked while a worker starts."""

    kind: ClassVar[KeyStorageKind] = KeyStorageKind.KEYRING

    def __init__(self, entry: str, backend: KeyringBackend | None = None) -> None:
        """`backend` None: the one that `keyring` chooses for this machine and session. Raises KeyStorageUnavailableError."""
        self._name = entry
        self._backend = backend or _backend_of_this_session()

    def read(self, place: KeyPlace) -> PrivateKey:
        try:
            text = self._backend.get_password(SERVICE, self._entry(place))
        except Exception as error:
            self._failed("read", error)
        where = f"The keyring's entry {self._entry(place)!r} of {SERVICE!r}"
        if text is None:
            raise KeyAbsentError(f"{where}: expected a key; there is none.")
        return key_of_text(text, where=where)

    def write(self, place: KeyPlace, key: PrivateKey) -> None:
        try:
            self._backend.set_password(SERVICE, self._entry(place), key_text(key))
        except Exception as error:
            self._failed("be written", error)

    def remove(self, place: KeyPlace) -> None:
        try:
            if self._backend.get_password(SERVICE, self._entry(place)) is not None:
                self._backend.delete_password(SERVICE, self._entry(place))
        except Exception as error:
            self._failed("be changed", error)

    def _entry(self, place: KeyPlace) -> str:
        return f"{self._name}/{place}"

    def _failed(self, what: str, error: Exception) -> NoReturn:
        # What a backend says may quote what it was given: its kind is told, not its words.
        raise KeyStorageUnavailableError(
            f"The keyring ({type(self._backend).__name__}) could not {what}: {type(error).__name__}. Unlock it, then try again."
        ) from None


def _backend_of_this_session() -> KeyringBackend:
    try:
        import keyring  # noqa: PLC0415  an optional library
    except ImportError:
        raise KeyStorageUnavailableError(
            "The key is kept in the operating system's keyring, and the library for it is not installed: pip install 'nexapod[keyring]'"
        ) from None
    backend = keyring.get_keyring()
    if backend.priority <= 0:
        raise KeyStorageUnavailableError(
            "This session has no keyring: start one (GNOME Keyring, KWallet, or any Secret Service), "
            "or choose another storage with `nexa key protect`."
        )
    return backend
