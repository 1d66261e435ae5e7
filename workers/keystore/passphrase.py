"""The passphrase of a sealed key: from a file that only its owner may read, or from a prompt. Never an argument, never the environment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from getpass import getpass
from pathlib import Path
from typing import Final

from workers.home_errors import PassphraseMissingError
from workers.keystore.secret_file import secret_read

CHARACTERS_MIN: Final = 8
"""Of a new passphrase. Longer is better: whoever copies the sealed file can try as often as their machines allow."""

PassphraseSource = Callable[[], str]


def passphrase_source(file: Path | None, *, new: bool = False) -> PassphraseSource:
    """A function that has the passphrase: the first line of `file`, or what the prompt is told, which is asked once and twice if `new`.

    It raises PassphraseMissingError, and for a file KeyAbsentError and KeyDamagedError.
    """
    known: list[str] = []

    def passphrase() -> str:
        if not known:
            text = _prompted(new=new) if file is None else _of_file(file)
            if new and len(text) < CHARACTERS_MIN:
                raise PassphraseMissingError(f"A passphrase has at least {CHARACTERS_MIN} characters; choose a longer one.")
            known.append(text)
        return known[0]

    return passphrase


def _of_file(path: Path) -> str:
    text = secret_read(path).split("\n", 1)[0].rstrip("\r")
    if not text:
        raise PassphraseMissingError(f"{path}: expected a passphrase in the first line; it is empty.")
    return text


def _prompted(*, new: bool) -> str:
    if not sys.stdin.isatty():
        raise PassphraseMissingError(
            "The node's key is sealed and nobody can be asked for its passphrase here. Name a file that holds it, readable by you only: "
            "`nexa key protect sealed --passphrase-file FILE`."
        )
    text = getpass("New passphrase for the node's key: " if new else "Passphrase of the node's key: ")
    if new and getpass("Again: ") != text:
        raise PassphraseMissingError("The two passphrases differ; nothing was changed.")
    return text
