"""mmCIF files: the one `_atom_site` loop of the PDBx/mmCIF dictionary. A strict reader of what CIF 1.1 has and mmCIF uses.

An atom is what its model, chain, residue (number, insertion code, name), name and alternate location say; where the author's chain and
residue number are there, they count as well as the dictionary's. Other categories, frames (`save_`) and other data blocks are passed over.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Final

from jobs.comparison.reading import FileUnreadableError, text_lines
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule
from jobs.comparison.structures import AtomName, Structure, StructureBuilder, structures_compare

_PREFIX: Final = "_atom_site."
_COORDINATES: Final = ("cartn_x", "cartn_y", "cartn_z")
_IDENTITY: Final = (
    "label_asym_id", "auth_asym_id", "label_seq_id", "auth_seq_id", "pdbx_pdb_ins_code", "label_comp_id", "label_atom_id", "label_alt_id",
)  # fmt: skip
_REQUIRED: Final = ("label_asym_id", "label_comp_id", "label_atom_id", *_COORDINATES)
_MODEL: Final = "pdbx_pdb_model_num"
_COLUMNS_MAX: Final = 200

_VALUE_CHARACTERS_MAX: Final = 80
_TOKENS_MAX: Final = 10_000_000
_ABSENT: Final = "."
_TEXT_FIELD: Final = "\n"
"""Stands for a text of many lines; no part of an atom is one."""

# A quoted value ends at a quote before a space; a comment begins at a # after one. A lone quote is an error: no line is passed over twice.
_TOKEN = re.compile(r"""'(?:[^'\n]++|'(?=\S))*+'(?=\s|$)|"(?:[^"\n]++|"(?=\S))*+"(?=\s|$)|\#.*|[^\s'"\#]\S*|['"]""")
_SPECIAL = re.compile("['\"#_]")
"""A line without these has neither quotes nor comments, names nor reserved words."""
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_Token = tuple[str, bool]
"""A word and whether it is a value in any case, because it was quoted."""


def mmcif_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError."""
    structures_compare(rule, mmcif_read(rule.path, one), mmcif_read(rule.path, other), tally, describe=_describe)


def mmcif_read(path: str, data: bytes) -> Structure:
    """The atoms of a file. Raises FileUnreadableError."""
    found = StructureBuilder(path)
    tokens = _Tokens(path, data)
    is_seen = False
    while (token := tokens.take()) is not None:
        if _is_name(token) and token[0].lower().startswith(_PREFIX):
            raise FileUnreadableError(f"{path}: expected the atoms in a loop; found {token[0][:40]!r} outside of one.")
        if token[1] or token[0].lower() != "loop_":
            continue
        names: list[str] = []
        while (token := tokens.peek()) is not None and _is_name(token) and len(names) < _COLUMNS_MAX:
            names.append(token[0].lower())
            tokens.take()
        if any(name.startswith(_PREFIX) for name in names):
            if is_seen:
                raise FileUnreadableError(f"{path}: expected one loop of atoms; found another.")
            is_seen = True
            _atoms_read(path, [name.removeprefix(_PREFIX) for name in names], tokens, found)
    return found.structure()


def _atoms_read(path: str, columns: list[str], tokens: _Tokens, found: StructureBuilder) -> None:
    """Takes the rows below the names of `columns`."""
    missing = [name for name in _REQUIRED if name not in columns]
    if missing or len(set(columns)) != len(columns):
        raise FileUnreadableError(f"{path}: expected the columns {', '.join(_REQUIRED)} of _atom_site, each once; missing: {missing}.")
    places = [columns.index(name) for name in _COORDINATES]
    parts = [columns.index(name) if name in columns else None for name in (_MODEL, *_IDENTITY)]
    while row := tokens.plain_row(len(columns)) or _row(path, len(columns), tokens):
        coordinates = [row[place] for place in places]
        if not all(len(text) <= _VALUE_CHARACTERS_MAX and _NUMBER.fullmatch(text) for text in coordinates):
            raise FileUnreadableError(f"{path}: expected numbers as coordinates; found {[text[:20] for text in coordinates]}.")
        model, *identity = [row[place] if place is not None else _ABSENT for place in parts]
        if len(model) > _VALUE_CHARACTERS_MAX or max(map(len, identity)) > _VALUE_CHARACTERS_MAX or _TEXT_FIELD in (model, *identity):
            raise FileUnreadableError(f"{path}: expected names of atoms of at most {_VALUE_CHARACTERS_MAX} characters; found longer ones.")
        found.add(model if model != _ABSENT else "1", "\n".join(identity), [float(text) for text in coordinates])


def _row(path: str, count: int, tokens: _Tokens) -> list[str]:
    """The next row of a loop, however it is laid out; empty at the loop's end."""
    row: list[str] = []
    while len(row) < count and (token := tokens.peek()) is not None and not _is_end(token):
        row.append(token[0])
        tokens.take()
    if row and len(row) != count:
        raise FileUnreadableError(f"{path}: expected {count} values in each row of atoms; the last has {len(row)}.")
    return row


def _is_name(token: _Token) -> bool:
    return not token[1] and token[0].startswith("_")


def _is_end(token: _Token) -> bool:
    """Whether a token ends the rows of a loop."""
    text, is_value = token
    return not is_value and (text[0] == "_" or text.lower().startswith(("loop_", "data_", "save_", "stop_", "global_")))


class _Tokens:
    """Names, words and values of the file, without comments. A text between lines that start with a semicolon is one value."""

    def __init__(self, path: str, data: bytes) -> None:
        self._path = path
        self._lines = text_lines(path, data)
        self._pending: deque[_Token] = deque()
        self._left = _TOKENS_MAX

    def peek(self) -> _Token | None:
        """The next token, None at the end."""
        while not self._pending:
            if (line := next(self._lines, None)) is None:
                return None
            self._fill(line)
        return self._pending[0]

    def take(self) -> _Token | None:
        token = self.peek()
        if token is not None:
            self._pending.popleft()
        return token

    def plain_row(self, count: int) -> list[str] | None:
        """The next line, if it is a row of so many values and nothing else; most are, and this is the fast way to read them."""
        if self._pending or (line := next(self._lines, None)) is None:
            return None
        words = line.split()
        if len(words) == count and _SPECIAL.search(line) is None and line[0] != ";":
            return words
        self._fill(line)
        return None

    def _fill(self, line: str) -> None:
        if line[0] == ";" or "'" in line or '"' in line or "#" in line:
            self._pending.extend(self._split(line))
        else:
            self._pending.extend((word, False) for word in line.split())
        self._left -= len(self._pending)
        if self._left < 0:
            raise FileUnreadableError(f"{self._path}: expected at most {_TOKENS_MAX} values besides atoms of a line each; found more.")

    def _split(self, line: str) -> Iterator[_Token]:
        """The tokens of a line that has quotes or comments, or begins a text field, which is read to its end."""
        if line.startswith(";"):
            if not any(other.startswith(";") for other in self._lines):
                raise FileUnreadableError(f"{self._path}: expected the end of a text field; the file ends before.")
            yield _TEXT_FIELD, True
            return
        for match in _TOKEN.finditer(line):
            text = match[0]
            if text in ("'", '"'):
                raise FileUnreadableError(f"{self._path}: expected a quoted value to end on its line; found one that does not.")
            if text[0] in "'\"":
                yield text[1:-1], True
            elif text[0] != "#":
                yield text, False


def mmcif_atom(identity: str) -> AtomName:
    """The parts of an identity. A name begins with a symbol of two letters only in an ion, whose residue is called what its atom is."""
    label_chain, chain, label_number, number, insertion, residue, name, alternate = identity.split("\n")
    number = (number if number != "." else label_number) + (insertion if insertion not in ".?" else "")
    letters = name.strip("0123456789'\"*+-")
    element = (letters[:2] if residue.upper() == name.upper() else letters[:1]).upper()
    return AtomName(chain if chain != "." else label_chain, residue, number, name, "" if alternate in ".?" else alternate, element)


def _describe(identity: str) -> str:
    label_chain, chain, label_number, number, insertion, residue, name, altloc = identity.split("\n")
    alternate = f", alternate {altloc}" if altloc not in ".?" else ""
    number = (number if number != "." else label_number) + (insertion if insertion not in ".?" else "")
    return f"chain {chain if chain != '.' else label_chain}, residue {number} {residue}, atom {name}{alternate}"
