"""Text from others, made fit for a terminal: a portal, a node or a bundle must not be able to move the cursor or forge a line."""

from __future__ import annotations

from rich.console import Console


def plain(text: object, *, characters_max: int = 300) -> str:
    """`text` on one line: what is not printable becomes `?`, what is too long is cut. It may hold rich's markup: print with markup off."""
    found = str(text)
    kept = "".join(character if character.isprintable() else "?" for character in found[:characters_max])
    return kept if len(found) <= characters_max else kept + "…"


def say(console: Console, text: str) -> None:
    """One line of text, whoever wrote its parts."""
    console.print(plain(text, characters_max=4000), highlight=False, markup=False, soft_wrap=True)
