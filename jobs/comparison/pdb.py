"""PDB files (wwPDB format 3.3, fixed columns): the ATOM and HETATM records, by model.

A model begins at MODEL and ends at ENDMDL or END; models are numbered as they come. Where a file has one model, it needs none of these.
"""

from __future__ import annotations

import io
import re

from jobs.comparison.reading import LINES_MAX, FileUnreadableError
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule
from jobs.comparison.structures import AtomName, Structure, StructureBuilder, structures_compare

_IDENTITY = slice(12, 27)
"""Columns 13 to 27: name, alternate location, residue name, chain, residue number, insertion code. Where a name stands tells calcium from
C-alpha, so it is taken with its spaces."""
_COORDINATES = (slice(30, 38), slice(38, 46), slice(46, 54))
_COORDINATE = re.compile(rb" *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+) *")
_BREAKS = (b"MODEL", b"ENDMDL", b"END")


def pdb_compare(rule: FileRule, one: bytes, other: bytes, tally: Tally) -> None:
    """Raises FileUnreadableError."""
    structures_compare(rule, pdb_read(rule.path, one), pdb_read(rule.path, other), tally, describe=_describe)


def pdb_read(path: str, data: bytes) -> Structure:
    """The atoms of a file. Raises FileUnreadableError."""
    found = StructureBuilder(path)
    model, is_empty = 1, True
    for number, line in enumerate(io.BytesIO(data), start=1):
        if number > LINES_MAX:
            raise FileUnreadableError(f"{path}: expected at most {LINES_MAX} lines; found more.")
        if line.startswith((b"ATOM  ", b"HETATM")):
            fields = [line[columns] for columns in _COORDINATES]
            identity = line[_IDENTITY]
            if len(fields[2].rstrip(b"\r\n")) < 8 or not all(map(_COORDINATE.fullmatch, fields)) or not identity.isascii():
                raise FileUnreadableError(f"{path}: expected an atom with x, y and z in columns 31 to 54; line {number} has others.")
            found.add(str(model), identity.decode("ascii"), [float(text) for text in fields])
            is_empty = False
        elif not is_empty and line.rstrip().split(b" ", 1)[0] in _BREAKS:
            model, is_empty = model + 1, True
    return found.structure()


def pdb_atom(identity: str) -> AtomName:
    """The parts of an identity. An element's symbol ends in the second column of a name; hydrogens with long names begin in the first."""
    name = identity[:4]
    if name[0] == " " or name[0].isdigit():
        element = name[1:].strip("0123456789 ")[:1]
    elif " " not in name and name[0] == "H":
        element = "H"
    else:
        element = name[:2].rstrip("0123456789 ")
    return AtomName(identity[9], identity[5:8].strip(), identity[10:15].strip(), name.strip(), identity[4].strip(), element.upper())


def _describe(identity: str) -> str:
    """`identity` in the words of mmcif's."""
    name, altloc, residue, chain, number = identity[:4], identity[4], identity[5:8], identity[9], identity[10:15]
    alternate = f", alternate {altloc}" if altloc != " " else ""
    return f"chain {chain}, residue {number.strip()} {residue.strip()}, atom {name.strip()}{alternate}"
