"""The descriptor's JSON schema as the few shapes that a form is made of. Pure.

References are followed and `null` is left out: what may be null may as well be absent. What a field is called, says, allows and has by
default stands in the schema only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Final

from jobs.descriptor.schema import descriptor_schema

SMALL_RANGE: Final = 4
"""Whole numbers with so few values are chosen from."""


class Kind(StrEnum):
    """What a leaf holds. `choice` is text out of a list, `flag` true or false."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    CHOICE = "choice"
    FLAG = "flag"


@dataclass(frozen=True)
class Leaf:
    """One value. `default` None: there is none to name, and the description says what is meant without it."""

    kind: Kind
    description: str
    required: bool
    default: Any
    least: float | None
    above: float | None
    most: float | None
    length_max: int | None
    choices: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """An object of known members."""

    description: str
    members: Mapping[str, Shape]


@dataclass(frozen=True)
class Rows:
    """An array."""

    description: str
    item: Shape


@dataclass(frozen=True)
class Pairs:
    """An object whose names are the writer's own."""

    description: str
    value: Shape


Shape = Leaf | Group | Rows | Pairs


@cache
def descriptor_shape() -> Group:
    """The whole descriptor."""
    schema = descriptor_schema()
    shape = _shape_of(schema, schema["$defs"], required=True)
    if not isinstance(shape, Group):
        raise TypeError(f"expected the schema of an object; found {shape}")
    return shape


def _shape_of(schema: Mapping[str, Any], definitions: Mapping[str, Any], *, required: bool) -> Shape:
    plain = _plain_of(schema, definitions)
    description = plain.get("description", "")
    match plain.get("type"):
        case "object" if "properties" in plain:
            needed = set(plain.get("required", ()))
            members = {name: _shape_of(inner, definitions, required=name in needed) for name, inner in plain["properties"].items()}
            return Group(description, members)
        case "object":
            patterns = plain.get("patternProperties", {})
            value = next(iter(patterns.values()), None) or plain["additionalProperties"]
            return Pairs(description, _shape_of(value, definitions, required=True))
        case "array":
            return Rows(description, _shape_of(plain["items"], definitions, required=True))
        case found:
            return _leaf_of(plain, str(found), required=required)


def _plain_of(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` without references and without null; what stands beside a reference goes before what it refers to."""
    plain = dict(schema)
    if alternatives := plain.pop("anyOf", None):
        (only,) = [one for one in alternatives if one != {"type": "null"}]
        plain = {**only, **plain}
    if reference := plain.pop("$ref", None):
        plain = {**definitions[reference.rpartition("/")[2]], **plain}
        return _plain_of(plain, definitions)
    return plain


def _leaf_of(plain: Mapping[str, Any], type_name: str, *, required: bool) -> Leaf:
    choices = tuple(str(one) for one in plain.get("enum", [plain["const"]] if "const" in plain else []))
    least, most = plain.get("minimum"), plain.get("maximum")
    match type_name:
        case "boolean":
            kind, choices = Kind.FLAG, ("true", "false")
        case "integer":
            kind = Kind.INTEGER
            if least is not None and most is not None and most - least < SMALL_RANGE:
                choices = tuple(str(one) for one in range(least, most + 1))
        case "number":
            kind = Kind.NUMBER
        case "string":
            kind = Kind.CHOICE if choices else Kind.TEXT
        case _:
            raise TypeError(f"the form knows no field of the type {type_name!r}")
    return Leaf(
        kind=kind,
        description=plain.get("description", ""),
        required=required,
        default=plain.get("default"),
        least=least,
        above=plain.get("exclusiveMinimum"),
        most=most,
        length_max=plain.get("maxLength"),
        choices=choices,
    )
