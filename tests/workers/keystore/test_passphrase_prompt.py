"""The prompt for a passphrase, on a terminal of its own as a contributor has it."""

from __future__ import annotations

import os
import pty
import sys

import pytest

PROGRAM = (
    "import sys\n"
    "from workers.home_errors import PassphraseMissingError\n"
    "from workers.keystore.passphrase import passphrase_source\n"
    "source = passphrase_source(None, new=sys.argv[1] == 'new')\n"
    "try:\n"
    "    print(f'<{source()}> <{source()}>')\n"
    "except PassphraseMissingError as error:\n"
    "    print(f'refused: {error}')\n"
)


def talk(which: str, *answers: tuple[str, str]) -> str:
    """What a program shows that asks on a terminal; each answer is given when its question has been asked."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", PROGRAM, which])  # noqa: S606  our own interpreter, no shell
    shown = ""
    waiting = list(answers)
    try:
        while data := _read(terminal):
            shown += data
            if waiting and shown.endswith(waiting[0][0]):
                os.write(terminal, waiting.pop(0)[1].encode() + b"\n")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
    assert not waiting, shown
    return shown


def _read(terminal: int) -> str:
    try:
        return os.read(terminal, 1024).decode()
    except OSError:  # how Linux says that the other side has ended
        return ""


def test_a_known_passphrase_is_asked_for_once_and_not_shown() -> None:
    shown = talk("known", ("Passphrase of the node's key: ", "correct horse"))
    assert shown.count("Passphrase") == 1
    assert shown.count("correct horse") == 2  # what the program printed; nothing echoed
    assert "<correct horse> <correct horse>" in shown


def test_a_new_one_is_asked_for_twice() -> None:
    shown = talk("new", ("New passphrase for the node's key: ", "correct horse"), ("Again: ", "correct horse"))
    assert "<correct horse> <correct horse>" in shown


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [("correct horse", "correct house", "The two passphrases differ"), ("short", "short", "at least 8 characters")],
)
def test_a_new_one_that_will_not_do_is_refused_and_not_repeated(first: str, second: str, why: str) -> None:
    shown = talk("new", ("New passphrase for the node's key: ", first), ("Again: ", second))
    assert f"refused: {why}" in shown or f"refused: A passphrase has {why}" in shown
    assert first not in shown
