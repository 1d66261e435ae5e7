"""A molecular structure to be looked at: atoms with their elements and bonds, chains as traces. Pure.

1. One model at a time, of at most ATOMS_MAX atoms; what is beyond is counted. Of alternate locations the first is taken.
2. Atoms are moved to their centre and turned so that their longest extent lies across and the shortest towards the viewer: the first look
   shows most. Never mirrored: that would be another molecule.
3. A bond is where two atoms are nearer than 1.2 times the sum of their covalent radii. Files may say otherwise; few do.
4. A trace runs from residue to residue along a chain, through C-alpha and phosphorus atoms, and breaks where these are too far apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from jobs.comparison.mmcif import mmcif_atom, mmcif_read
from jobs.comparison.pdb import pdb_atom, pdb_read
from jobs.comparison.reading import FileUnreadableError
from jobs.comparison.structures import AtomName, Model
from jobs.descriptor.formats import FileFormat

STRUCTURE_BYTES: Final = 8 * 2**20
ATOMS_MAX: Final = 20_000
_BONDS_AN_ATOM: Final = 8
_CELL_ATOMS: Final = 24
"""Real matter has at most about ten atoms in a cell; more are a stranger's, and would cost time."""
_CELL: Final = 2.2
_RADII: Final = {"H": 0.31, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "P": 1.07, "S": 1.05, "CL": 1.02, "BR": 1.2, "I": 1.39, "SE": 1.2}
"""Covalent, in angstrom (Cordero et al. 2008). Others, metals among them, have no bonds here."""
_SLACK: Final = 1.2
_COLOURS: Final = {
    "H": "h", "C": "c", "N": "n", "O": "o", "S": "s", "SE": "s", "P": "p",
    "F": "x", "CL": "x", "BR": "x", "I": "x",
    **dict.fromkeys(("NA", "K", "MG", "CA", "FE", "ZN", "MN", "CU", "NI", "CO"), "m"),
}  # fmt: skip
"""Elements by the letter of their colour class (static/jobs/results.css); all others are `q`."""
_COLOUR_WORDS: Final = {
    "c": "carbon", "n": "nitrogen", "o": "oxygen", "h": "hydrogen", "s": "sulphur", "p": "phosphorus",
    "x": "halogen", "m": "metal", "q": "other",
}  # fmt: skip
_TRACE_ATOMS: Final = {("CA", "C"): 4.3, ("P", "P"): 8.0}
"""(name, element) and how far apart two such neighbours may be, in angstrom."""


@dataclass(frozen=True)
class Shown:
    """A model as it is shown. `points` has a row of x, y and z for each atom, in angstrom; bonds and traces hold places of atoms."""

    points: NDArray[np.float64]
    colours: list[str]
    bonds: list[tuple[int, int]]
    traces: list[list[int]]
    models: list[str]
    model: str
    atoms: int
    """Of the model; those beyond ATOMS_MAX are not in `points`."""
    chains: int
    residues: int

    @property
    def elements(self) -> list[tuple[str, str]]:
        """(colour class, what it stands for) of what is there."""
        return [(colour, words) for colour, words in _COLOUR_WORDS.items() if colour in self.colours]

    def document(self) -> dict[str, Any]:
        """For the drawing script: coordinates flat, to a thousandth of an angstrom."""
        return {
            "coordinates": [round(float(number), 3) for number in self.points.reshape(-1)],
            "colours": "".join(self.colours),
            "bonds": [place for bond in self.bonds for place in bond],
            "traces": self.traces,
        }


def structure_read(path: str, file_format: FileFormat, data: bytes, *, model: str = "") -> Shown:
    """The model of this name, else the first one. Raises FileUnreadableError."""
    if len(data) > STRUCTURE_BYTES:
        raise FileUnreadableError(f"{path}: expected at most {STRUCTURE_BYTES} bytes to be drawn; found more. Download it to look at it.")
    is_pdb = file_format is FileFormat.PDB
    models = pdb_read(path, data) if is_pdb else mmcif_read(path, data)
    name = model if model in models else next(iter(models))
    found = models[name]
    kept, names = _kept(found, is_pdb=is_pdb)
    points = _turned(found.points()[kept])
    elements = [atom.element if atom.element in _COLOURS else atom.element[:1] for atom in names]
    return Shown(
        points=points,
        colours=[_COLOURS.get(element, "q") for element in elements],
        bonds=_bonds(points, [_RADII.get(element, 0.0) for element in elements]),
        traces=_traces(points, names),
        models=list(islice(models, 1000)),
        model=name,
        atoms=len(found.identities),
        chains=len({atom.chain for atom in names}),
        residues=len({(atom.chain, atom.residue_number, atom.residue) for atom in names}),
    )


def _kept(model: Model, *, is_pdb: bool) -> tuple[list[int], list[AtomName]]:
    """Places and names of the atoms that are shown."""
    parts = pdb_atom if is_pdb else mmcif_atom
    kept: list[int] = []
    names: list[AtomName] = []
    alternates: dict[tuple[str, str, str, str], str] = {}
    for place, identity in enumerate(model.identities):
        if len(kept) == ATOMS_MAX:
            break
        atom = parts(identity)
        key = (atom.chain, atom.residue_number, atom.residue, atom.name)
        if not atom.alternate or alternates.setdefault(key, atom.alternate) == atom.alternate:
            kept.append(place)
            names.append(atom)
    return kept, names


def _turned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rule 2."""
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    axes = axes[:, ::-1]
    if np.linalg.det(axes) < 0:
        axes[:, 2] *= -1
    turned: NDArray[np.float64] = centred @ axes
    return turned


def _bonds(points: NDArray[np.float64], radii: list[float]) -> list[tuple[int, int]]:
    """Rule 3, by cells: only atoms of neighbouring cells are compared, and only so many of each."""
    cells: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    places = points.tolist()
    for atom, (x, y, z) in enumerate(places):
        cell = cells[int(x // _CELL), int(y // _CELL), int(z // _CELL)]
        if radii[atom] and len(cell) < _CELL_ATOMS:
            cell.append(atom)
    counts = [0] * len(places)
    found: list[tuple[int, int]] = []
    for one, other in _neighbours(cells):
        if radii[one] < 0.5 and radii[other] < 0.5:  # two hydrogens
            continue
        reach = (radii[one] + radii[other]) * _SLACK
        (ax, ay, az), (bx, by, bz) = places[one], places[other]
        square = (ax - bx) ** 2 + (ay - by) ** 2 + (az - bz) ** 2
        if 0.16 < square < reach * reach and counts[one] < _BONDS_AN_ATOM and counts[other] < _BONDS_AN_ATOM:
            counts[one] += 1
            counts[other] += 1
            found.append((one, other))
    return found


def _neighbours(cells: dict[tuple[int, int, int], list[int]]) -> Iterator[tuple[int, int]]:
    """Each pair of atoms in the same cell or in two that touch, once. A bond of two bromines is longer than a cell's reach: none is lost
    but of the heaviest elements."""
    around = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1) if (x, y, z) > (0, 0, 0)]
    for (x, y, z), atoms in list(cells.items()):
        for number, one in enumerate(atoms):
            for other in atoms[number + 1 :]:
                yield one, other
        for dx, dy, dz in around:
            for other in cells.get((x + dx, y + dy, z + dz), ()):
                for one in atoms:
                    yield one, other


def _traces(points: NDArray[np.float64], names: list[AtomName]) -> list[list[int]]:
    """Rule 4; those of at least two atoms."""
    traces: list[list[int]] = []
    last: tuple[str, float] | None = None
    for place, atom in enumerate(names):
        reach = _TRACE_ATOMS.get((atom.name, atom.element))
        if reach is None:
            continue
        if last == (atom.chain, reach) and float(np.linalg.norm(points[place] - points[traces[-1][-1]])) <= reach:
            traces[-1].append(place)
        else:
            traces.append([place])
        last = (atom.chain, reach)
    return [trace for trace in traces if len(trace) > 1]
