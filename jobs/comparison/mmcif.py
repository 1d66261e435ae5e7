"""mmCIF files: the one `_atom_site` loop of the PDBx/mmCIF dictionary. A strict reader of what CIF 1.1 has and mmCIF uses.

An atom is what its model, chain, residue (number, insertion code, name), name and alternate location say; where the author's chain and
residue number are there, they count as well as the dictionary's. Other categories, frames (`save_`) and other data blocks are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from jobs.comparison.reading import FileUnreadableError, text_lines
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule
from jobs.comparison.structures import Structure, StructureBuilder, structures_compare

_PREFIX: Final = "_atom_site."
_COORDINATES: Final = ("cartn_x", "cartn_y", "cartn_z")
_IDENTITY: Final = (
    "label_asym_id", "auth_asym_id", "label_seq_id", "auth_seq_id", "pdbx_pdb_ins_code", "label_comp_id", "label_atom_id", "label_alt_id",
)  # fmt: skip
_REQUIRED: Final = ("label_asym_id", "label_comp_id", "label_atom_id", *_COORDINATES)
_MODEL: Final = "pdbx_pdb_model_num"
_COLUMNS_MAX: Final = 200

_VALUE_CHARACTERS_MAX: Final = 80
_TEXT_FIELD: Final = "\n"
"""Stands for a text of many lines; no part of an atom is one."""

# A quoted value ends at a quote before a space; a comment begins at a # after one. A lone quote is an error: no line is passed over twice.
_TOKEN = re.compile(r"""'(?:[^'\n]++|'(?=\S))*+'(?=\s|$)|"(?:[^"\n]++|"(?=\S))*+"(?=\s|$)|\#.*|[^\s'"\#]\S*|['"]""")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_Token = tuple[str, bool]
"""A word and whether it is a value in any case, because it was quoted."""


def mmcif_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError."""
    structures_compare(rule, mmcif_read(rule.path, one), mmcif_read(rule.path, other), tally, describe=_describe)


def mmcif_read(path: str, data: bytes) -> Structure:
    """The atoms of a file. Raises FileUnreadableError."""
    found = StructureBuilder(path)
    tokens = _tokens(path, data)
    token = next(tokens, None)
    seen = False
    while token is not None:
        if _word(token) != "loop_":
            if not token[1] and token[0].lower().startswith(_PREFIX):
                raise FileUnreadableError(f"{path}: expected the atoms in a loop; found {token[0][:40]!r} outside of one.")
            token = next(tokens, None)
            continue
        names: list[str] = []
        token = next(tokens, None)
        while token is not None and not token[1] and token[0].startswith("_") and len(names) <= _COLUMNS_MAX:
            names.append(token[0].lower())
            token = next(tokens, None)
        if any(name.startswith(_PREFIX) for name in names):
            if seen:
                raise FileUnreadableError(f"{path}: expected one loop of atoms; found another.")
            seen = True
            token = _atoms_read(path, names, token, tokens, found)
    return found.structure()


def _atoms_read(path: str, names: list[str], token: _Token | None, tokens: Iterator[_Token], found: StructureBuilder) -> _Token | None:
    """Reads the rows below `names`; the first token after them."""
    columns = [name.removeprefix(_PREFIX) for name in names]
    missing = [name for name in _REQUIRED if name not in columns]
    if missing or len(set(columns)) != len(columns) or len(columns) > _COLUMNS_MAX:
        raise FileUnreadableError(f"{path}: expected the columns {', '.join(_REQUIRED)} of _atom_site, each once; missing: {missing}.")
    identity = [columns.index(name) if name in columns else None for name in _IDENTITY]
    places = [columns.index(name) for name in _COORDINATES]
    model = columns.index(_MODEL) if _MODEL in columns else None
    row: list[str] = []
    while token is not None and not _is_end(token):
        row.append(token[0])
        if len(row) == len(columns):
            coordinates = [row[place] for place in places]
            name = [row[place] if place is not None else "." for place in (model, *identity)]
            if not all(len(text) <= _VALUE_CHARACTERS_MAX and _NUMBER.fullmatch(text) for text in coordinates):
                raise FileUnreadableError(f"{path}: expected numbers as coordinates; found {[text[:20] for text in coordinates]}.")
            if any(len(text) > _VALUE_CHARACTERS_MAX or text == _TEXT_FIELD for text in name):
                raise FileUnreadableError(
                    f"{path}: expected names of atoms of at most {_VALUE_CHARACTERS_MAX} characters; found longer ones."
                )
            found.add(name[0] if model is not None else "1", "\n".join(name[1:]), [float(text) for text in coordinates])
            row.clear()
        token = next(tokens, None)
    if row:
        raise FileUnreadableError(f"{path}: expected {len(columns)} values in each row of atoms; the last has {len(row)}.")
    return token


def _word(token: _Token) -> str:
    return "" if token[1] else token[0].lower()


def _is_end(token: _Token) -> bool:
    """Whether a token ends the rows of a loop."""
    text, is_value = token
    return not is_value and (text[0] == "_" or text.lower().startswith(("loop_", "data_", "save_", "stop_", "global_")))


def _tokens(path: str, data: bytes) -> Iterator[_Token]:
    """Names, words and values of the file, without comments. A text between lines that start with a semicolon is one value."""
    lines = text_lines(path, data)
    for line in lines:
        if line.startswith(";"):
            if not any(other.startswith(";") for other in lines):
                raise FileUnreadableError(f"{path}: expected the end of a text field; the file ends before.")
            yield _TEXT_FIELD, True
        elif "'" in line or '"' in line or "#" in line:
            for match in _TOKEN.finditer(line):
                text = match[0]
                if text[0] == "#":
                    continue
                if text in ("'", '"'):
                    raise FileUnreadableError(f"{path}: expected a quoted value to end on its line; found one that does not.")
                yield (text[1:-1], True) if text[0] in "'\"" else (text, False)
        else:
            for text in line.split():
                yield text, False


def _describe(identity: str) -> str:
    label_chain, chain, label_number, number, insertion, residue, name, altloc = identity.split("\n")
    alternate = f", alternate {altloc}" if altloc not in ".?" else ""
    number = (number if number != "." else label_number) + (insertion if insertion not in ".?" else "")
    return f"chain {chain if chain != '.' else label_chain}, residue {number} {residue}, atom {name}{alternate}"
