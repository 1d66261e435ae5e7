"""The descriptor as the fields of a form, and back. Pure.

1. A field is a text under a name: the JSON pointer of its value, but that rows and pairs are counted (`/environment/0/name` and
   `/environment/0/value`), with gaps where some were taken away.
2. An empty field is an absent member; defaults are never filled in. But rows and the values of pairs are there, though empty.
3. What a field can't hold is left as the text that was typed, so that the parser, and nobody else, says what is wrong with it.
4. So from a document to fields and back leads to a document of the same meaning, without nulls and empty members; and from fields to a
   document and back to the same fields, but for the spelling of numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from jobs.descriptor.errors import DescriptorInvalidError, Fault, pointer
from jobs.descriptor.numbers import number_parse, number_text
from jobs.descriptor.shapes import Group, Kind, Leaf, Pairs, Rows, Shape, descriptor_shape

FIELDS_MAX: Final = 900
"""A browser sends each of them with every edit; DATA_UPLOAD_MAX_NUMBER_FIELDS leaves room for some more."""

Fields = dict[str, str]
_ABSENT: Final = object()


class FormUnfitError(DescriptorInvalidError):
    """The document can't be shown as a form without losing something; the faults name what."""

    code: ClassVar[str] = "form_unfit"
    title: ClassVar[str] = "The form can't show this document"


@dataclass
class Written:
    """What fields spell. `names`: the field or rows of each place of the document; `faults`: by name, what no document can hold."""

    document: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[str, Fault]] = field(default_factory=list)

    def name_of(self, path: str) -> str:
        """The name at a JSON pointer, or at the nearest place around it that the form has; empty for the whole."""
        while path and path not in self.names:
            path = path.rpartition("/")[0]
        return self.names.get(path, "")


def fields_of(document: Mapping[str, Any]) -> Fields:
    """Every field of `document`. Raises FormUnfitError."""
    filling = _Filling()
    filling.value(descriptor_shape(), "", "", document)
    count = len(filling.fields)
    if not filling.faults and count > FIELDS_MAX:
        filling.faults.append(fields_fault(count))
    if filling.faults:
        raise FormUnfitError(filling.faults)
    return filling.fields


def fields_fault(count: int) -> Fault:
    """What is wrong with so many fields, more than FIELDS_MAX."""
    message = f"The form shows up to {FIELDS_MAX} fields; this descriptor needs {count}. Go on with JSON, or use `nexa submit`."
    return Fault("", "too_long", message)


def document_of(fields: Mapping[str, str]) -> Written:
    """The document that `fields` spell; names that the form doesn't have are passed over."""
    written = Written()
    _Reading(fields, written).whole()
    return written


def row_add(fields: Mapping[str, str], rows: str) -> Fields:
    """With one more row of the rows or pairs of this name, empty and last. A name that has no rows changes nothing."""
    shape = _shape_at(rows)
    if not isinstance(shape, Rows | Pairs):
        return dict(fields)
    name = f"{rows}/{max(rows_of(fields)[rows], default=-1) + 1}"
    filling = _Filling()
    if isinstance(shape, Pairs):
        filling.fields[f"{name}/name"] = ""
        filling.value(shape.value, f"{name}/value", "", _ABSENT)
    else:
        filling.value(shape.item, name, "", _ABSENT)
    return {**fields, **filling.fields}


def row_remove(fields: Mapping[str, str], row: str) -> Fields:
    """Without the row of this name. A name that is no row's changes nothing."""
    if not isinstance(_shape_at(row.rpartition("/")[0]), Rows | Pairs):
        return dict(fields)
    return {name: text for name, text in fields.items() if name != row and not name.startswith(f"{row}/")}


def without_defaults(document: Mapping[str, Any]) -> dict[str, Any]:
    """`document` without the members that say what is meant without them too."""
    lean: dict[str, Any] = _lean(descriptor_shape(), document)
    return lean


def _lean(shape: Shape, value: Any) -> Any:
    match shape, value:
        case Group(), Mapping():
            members = {name: _lean(shape.members[name], each) for name, each in value.items() if name in shape.members}
            return {name: each for name, each in members.items() if not _is_default(shape.members[name], each)}
        case Rows(), list():
            return [_lean(shape.item, each) for each in value]
        case Pairs(), Mapping():
            return {name: _lean(shape.value, each) for name, each in value.items()}
        case _:
            return value


def _is_default(shape: Shape, value: Any) -> bool:
    match shape:
        case Leaf():
            return not shape.required and (value is None or value == shape.default)
        case Group() | Rows() | Pairs():
            return not value


class _Filling:
    """Writes the fields of values along the shape of a descriptor; what doesn't fit becomes a fault."""

    def __init__(self) -> None:
        self.fields: Fields = {}
        self.faults: list[Fault] = []

    def value(self, shape: Shape, name: str, path: str, value: Any) -> None:
        """The fields below `name` of what stands at `path`; _ABSENT: empty ones."""
        value = _ABSENT if value is None else value
        match shape, value:
            case Leaf(), str() | bool() | int() | float():
                self.fields[name] = _leaf_text(value)
            case Leaf(), _ if value is _ABSENT:
                self.fields[name] = ""
            case Group(), Mapping():
                self._members(shape, name, path, value)
            case Group(), _ if value is _ABSENT:
                self._members(shape, name, path, {})
            case Rows(), list():
                for number, each in enumerate(value):
                    self.value(shape.item, f"{name}/{number}", path + pointer(number), each)
            case Pairs(), Mapping():
                for number, (key, each) in enumerate(value.items()):
                    self.fields[f"{name}/{number}/name"] = key
                    self.value(shape.value, f"{name}/{number}/value", path + pointer(key), each)
            case Rows() | Pairs(), _ if value is _ABSENT:
                pass
            case _:
                expected = {Leaf: "a single value", Rows: "an array"}.get(type(shape), "an object")
                self.faults.append(Fault(path, "wrong_type", f"The form expects {expected} here. Correct it, or go on with JSON."))

    def _members(self, shape: Group, name: str, path: str, members: Mapping[str, Any]) -> None:
        for unknown in sorted(members.keys() - shape.members.keys()):
            message = "The form has no such field. Remove it or correct its spelling."
            self.faults.append(Fault(path + pointer(unknown), "unknown_field", message))
        for member, inner in shape.members.items():
            self.value(inner, f"{name}/{member}", path + pointer(member), members.get(member, _ABSENT))


class _Reading:
    """Reads fields along the shape of a descriptor into `written`."""

    def __init__(self, fields: Mapping[str, str], written: Written) -> None:
        self._fields = fields
        self._written = written
        self._counts = rows_of(fields)

    def whole(self) -> None:
        found = self._value(descriptor_shape(), "", "", is_row=True)
        self._written.document = found

    def _value(self, shape: Shape, name: str, path: str, *, is_row: bool) -> Any:
        """What stands at `name`, or _ABSENT; of a row or the value of a pair, never _ABSENT."""
        self._written.names[path] = name
        match shape:
            case Leaf():
                return _leaf_value(shape, self._fields.get(name, ""), is_row=is_row)
            case Group():
                found = {
                    member: value
                    for member, inner in shape.members.items()
                    for value in (self._value(inner, f"{name}/{member}", path + pointer(member), is_row=False),)
                    if value is not _ABSENT
                }
                return found if found or is_row else _ABSENT
            case Rows():
                rows = [
                    self._value(shape.item, f"{name}/{number}", path + pointer(place), is_row=True)
                    for place, number in enumerate(sorted(self._counts[name]))
                ]
                return rows or _ABSENT
            case Pairs():
                return self._pairs(shape, name, path) or _ABSENT

    def _pairs(self, shape: Pairs, name: str, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number in sorted(self._counts[name]):
            key = self._fields.get(f"{name}/{number}/name", "")
            if key in found:
                fault = Fault(path + pointer(key), "name_duplicate", f"{key!r} is named twice. Name it once.")
                self._written.faults.append((f"{name}/{number}/name", fault))
                continue
            found[key] = self._value(shape.value, f"{name}/{number}/value", path + pointer(key), is_row=True)
        return found


def _leaf_text(value: str | float) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case _:
            return number_text(value)


def _leaf_value(leaf: Leaf, text: str, *, is_row: bool) -> Any:
    # Browsers send every line's end as two characters.
    text = text.replace("\r\n", "\n")
    if text == "" and not is_row:
        return _ABSENT
    match leaf.kind:
        case Kind.INTEGER | Kind.NUMBER:
            number = number_parse(text.strip())
            return text if number is None else number
        case Kind.FLAG:
            return {"true": True, "false": False}.get(text, text)
        case Kind.TEXT | Kind.CHOICE:
            return text


def rows_of(fields: Iterable[str]) -> dict[str, set[int]]:
    """The numbers of the rows that each name has, by the names of the fields; a name without rows has an empty set."""
    counts: dict[str, set[int]] = defaultdict(set)
    for name in fields:
        parts = name.split("/")
        for place, part in enumerate(parts):
            if part.isascii() and part.isdecimal() and len(part) <= 6:
                counts["/".join(parts[:place])].add(int(part))
    return counts


def _shape_at(name: str) -> Shape | None:
    """The shape whose field, group or rows have this name."""
    shape: Shape | None = descriptor_shape()
    for part in name.split("/")[1:]:
        match shape:
            case Group():
                shape = shape.members.get(part)
            case Rows():
                shape = shape.item
            case Pairs():
                # The number of a pair stands for the pair itself; what follows is its name or its value.
                shape = shape if part.isdecimal() else shape.value
            case _:
                return None
    return shape
