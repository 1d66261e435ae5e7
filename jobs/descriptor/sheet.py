"""The descriptor's form as a page shows it: sections of nodes with labels, help, units, ranges and defaults, all from the schema. Pure.

Only the order and the words of the sections are written here. A new field of the descriptor needs a place in SECTIONS, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from jobs.descriptor.form import Fields, rows_of
from jobs.descriptor.numbers import number_text
from jobs.descriptor.shapes import Group, Kind, Leaf, Pairs, Rows, Shape, descriptor_shape

SECTIONS: Final = (
    ("Program", ("job_id", "title", "type", "docker_image", "command", "arguments", "environment")),
    ("Inputs", ("inputs", "input_uri", "input_files")),
    ("Outputs", ("outputs",)),
    ("Machine", ("tier", "requirements", "limits")),
    ("Verification", ("verification", "tolerance")),
    ("Pay and queue", ("estimated_flops", "credit_rate", "priority", "queue_deadline_seconds")),
    ("Who may see it", ("visibility", "schema_version")),
)
"""Every member of a descriptor, once."""

_UNITS: Final = {"seconds": "s", "mb": "MB", "gb": "GB", "bytes": "bytes"}
_SPOKEN: Final = {"ram": "RAM", "vram": "VRAM", "gpu": "GPU", "cpus": "CPUs", "uri": "address", "id": "id", "flops": "FLOPs", "nan": "NaN"}
_LONG: Final = 400
"""Texts that may be longer than this get more than one line."""
_NO_BOUND: Final = 1e9
"""A bound from here on tells nobody anything; the parser knows it."""


@dataclass(frozen=True)
class Node:
    """A field, or what holds fields. `kind`: one of jobs.descriptor.shapes.Kind, or group, rows, pair, pairs.

    `text` is a leaf's. `hint` says what may stand there and what is meant by an empty field. `wrong` are messages.
    """

    kind: str
    name: str
    label: str
    unit: str = ""
    help: str = ""
    hint: str = ""
    text: str = ""
    choices: tuple[str, ...] = ()
    is_required: bool = False
    is_long: bool = False
    wrong: tuple[str, ...] = ()
    children: tuple[Node, ...] = ()

    @property
    def is_filled(self) -> bool:
        """Whether anything was written in it or below it."""
        return bool(self.text or self.wrong) or any(child.is_filled for child in self.children)


@dataclass(frozen=True)
class Section:
    """A part of the form. `slug` is for ids."""

    title: str
    slug: str
    nodes: tuple[Node, ...]


def sections_of(fields: Fields, wrong: Mapping[str, Sequence[str]]) -> list[Section]:
    """The whole form with these texts. `wrong`: messages by the name of a field or of rows."""
    members = descriptor_shape().members
    drawing = _Drawing(fields, wrong)
    return [
        Section(title, title.lower().replace(" ", "-"), tuple(drawing.node(members[name], f"/{name}", name) for name in names))
        for title, names in SECTIONS
    ]


class _Drawing:
    def __init__(self, fields: Fields, wrong: Mapping[str, Sequence[str]]) -> None:
        self._fields = fields
        self._wrong = wrong
        self._rows = rows_of(fields)

    def node(self, shape: Shape, name: str, member: str) -> Node:
        label, unit = label_of(member)
        wrong = tuple(self._wrong.get(name, ()))
        match shape:
            case Leaf():
                return Node(
                    kind=shape.kind,
                    name=name,
                    label=label,
                    unit=unit,
                    help=shape.description,
                    hint=hint_of(shape),
                    text=self._fields.get(name, ""),
                    choices=shape.choices,
                    is_required=shape.required,
                    is_long=shape.kind is Kind.TEXT and (shape.length_max or 0) > _LONG,
                    wrong=wrong,
                )
            case Group():
                children = tuple(self.node(inner, f"{name}/{inner_name}", inner_name) for inner_name, inner in shape.members.items())
                return Node("group", name, label, help=shape.description, wrong=wrong, children=children)
            case Rows():
                rows = tuple(self.node(shape.item, f"{name}/{number}", member) for number in sorted(self._rows[name]))
                return Node("rows", name, label, help=shape.description, wrong=wrong, children=rows)
            case Pairs():
                pairs = tuple(self._pair(shape, f"{name}/{number}", member) for number in sorted(self._rows[name]))
                return Node("pairs", name, label, help=shape.description, wrong=wrong, children=pairs)

    def _pair(self, shape: Pairs, name: str, member: str) -> Node:
        key_name = f"{name}/name"
        key = Node(
            "text", key_name, "name", text=self._fields.get(key_name, ""), is_required=True, wrong=tuple(self._wrong.get(key_name, ()))
        )
        return Node("pair", name, label_of(member)[0], children=(key, self.node(shape.value, f"{name}/value", "value")))


def label_of(member: str) -> tuple[str, str]:
    """A member's name as words, and its unit: `wall_seconds` is (wall, s)."""
    words = member.split("_")
    unit = _UNITS.get(words[-1], "") if len(words) > 1 else ""
    return " ".join(_SPOKEN.get(word, word) for word in (words[:-1] if unit else words)), unit


def hint_of(leaf: Leaf) -> str:
    """What may stand there, and the default: `whole number, 1 to 16; 1 if empty`."""
    parts = []
    whole = "whole number" if leaf.kind is Kind.INTEGER and not leaf.choices else ""
    bounds = "" if leaf.choices else _bounds_of(leaf)
    if said := ", ".join(part for part in (whole, bounds) if part):
        parts.append(said)
    if leaf.kind is Kind.TEXT and leaf.length_max is not None and leaf.length_max <= _LONG:
        parts.append(f"up to {leaf.length_max} characters")
    if leaf.required:
        parts.append("required")
    elif leaf.default not in (None, ""):
        parts.append(f"{_spoken(leaf.default)} if empty")
    return "; ".join(parts)


def _bounds_of(leaf: Leaf) -> str:
    most = "" if leaf.most is None or leaf.most >= _NO_BOUND else _spoken(leaf.most)
    if leaf.above is not None:
        return f"more than {_spoken(leaf.above)}" + (f", up to {most}" if most else "")
    if leaf.least is not None:
        return f"{_spoken(leaf.least)} to {most}" if most else f"{_spoken(leaf.least)} or more"
    return f"up to {most}" if most else ""


def _spoken(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}".replace(",", "\u202f")
        case float():
            return _spoken(int(value)) if value.is_integer() and abs(value) < 1e6 else number_text(value)
        case _:
            return str(value)
