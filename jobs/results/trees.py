"""A JSON document as steps through its tree, in the order in which they are shown. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from jobs.comparison.reading import FileUnreadableError
from jobs.comparison.trees import document_read
from jobs.results.texts import text_head

TREE_BYTES: Final = 2 * 2**20
NODES_MAX: Final = 2000
MEMBERS_MAX: Final = 200
"""Of one object or list; the rest is counted."""
DEPTH_MAX: Final = 16
DEPTH_OPEN: Final = 2
_TEXT_CHARACTERS: Final = 400


@dataclass(frozen=True)
class Step:
    """`open` begins an object or a list, which the next `close` of its level ends; `leaf` is a value; `more` tells what is left out."""

    what: Literal["open", "close", "leaf", "more"]
    name: str = ""
    text: str = ""
    type: str = ""
    is_open: bool = False
    """Whether it is shown unfolded."""


def tree_steps(path: str, data: bytes) -> list[Step]:
    """Raises FileUnreadableError."""
    if len(data) > TREE_BYTES:
        raise FileUnreadableError(f"{path}: expected at most {TREE_BYTES} bytes to be shown as a tree; found more. See it as text.")
    walk = _Walk()
    walk.visit("", document_read(path, data), 0)
    return walk.steps


class _Walk:
    """Recurses at most DEPTH_MAX deep and makes about NODES_MAX steps."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._left = NODES_MAX

    def visit(self, name: str, value: Any, depth: int) -> None:
        self._left -= 1
        if not isinstance(value, dict | list):
            self.steps.append(_leaf(name, value))
            return
        members = list(value.items()) if isinstance(value, dict) else [(str(index), item) for index, item in enumerate(value[:MEMBERS_MAX])]
        noun, type_ = ("member", "object") if isinstance(value, dict) else ("item", "list")
        text = f"{type_}, {len(value)} {noun}{'' if len(value) == 1 else 's'}"
        self.steps.append(Step("open", _shown(name), text, type_, is_open=depth < DEPTH_OPEN))
        shown = 0
        if depth < DEPTH_MAX:
            for member, inner in members[:MEMBERS_MAX]:
                if self._left <= 0:
                    break
                self.visit(member, inner, depth + 1)
                shown += 1
        if shown < len(value):
            self.steps.append(Step("more", text=f"{len(value) - shown} more, not shown here"))
        self.steps.append(Step("close"))


def _leaf(name: str, value: Any) -> Step:
    match value:
        case bool() | None:
            return Step("leaf", _shown(name), {True: "true", False: "false", None: "null"}[value], "word")
        case str():
            return Step("leaf", _shown(name), _shown(value), "text")
        case _:
            return Step("leaf", _shown(name), repr(value), "number")


def _shown(text: str) -> str:
    cut = text[:_TEXT_CHARACTERS]
    return text_head(cut.encode("utf-8", "replace")).text + ("…" if len(text) > len(cut) else "")
