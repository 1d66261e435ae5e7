"""Every way in which a node home, or the key in its care, is not as a command needs it. All of them are for the contributor to read.

    HomeError
    ├── HomeMissingError              nothing has joined here
    ├── HomeExistsError               something has
    ├── HomeDamagedError              a file is unreadable, malformed, or open to others
    ├── HomeLockedError               another worker runs on it
    ├── HomeUnlockableError           its file system can't say whether another worker runs on it
    ├── HomeCopiedError               this is not the place where the node joined
    ├── KeyRotationUnfinishedError    a new key was made, and the portal's answer to it was never seen
    └── KeyStorageError               where the key should be
        ├── KeyAbsentError                there is none
        ├── KeyDamagedError               there is something else, or something that others may read
        ├── KeyStorageUnavailableError    the storage itself isn't there, or takes nothing
        ├── PassphraseMissingError        nobody can be asked for the passphrase, and no file holds it
        └── PassphraseWrongError          the passphrase doesn't open the sealed key, or the seal was tampered with

No message holds a key, a passphrase, or any part of what was read where one of them should be.
"""

from __future__ import annotations


class HomeError(Exception):
    """The node home is not as this command needs it; the message says what to do."""


class HomeMissingError(HomeError):
    """No node has joined in this folder."""


class HomeExistsError(HomeError):
    """A node has joined in this folder already."""


class HomeDamagedError(HomeError):
    """A file of the node home cannot be used."""


class HomeLockedError(HomeError):
    """Another worker holds this node home."""


class HomeUnlockableError(HomeError):
    """The file system of the node home has no locks."""


class HomeCopiedError(HomeError):
    """The folder, or the machine, is another than the one where the node joined."""


class KeyRotationUnfinishedError(HomeError):
    """Whether the old or the new key is the node's only the portal knows."""


class KeyStorageError(HomeError):
    """The node's key can't be had from where it is kept."""


class KeyAbsentError(KeyStorageError):
    """The storage holds no key of this node."""


class KeyDamagedError(KeyStorageError):
    """What the storage holds is not a key, or not kept as a key must be."""


class KeyStorageUnavailableError(KeyStorageError):
    """This machine doesn't offer the storage, or the storage doesn't do what was asked."""


class PassphraseMissingError(KeyStorageError):
    """The key is sealed, and the passphrase could not be had."""


class PassphraseWrongError(KeyStorageError):
    """The seal does not open."""
