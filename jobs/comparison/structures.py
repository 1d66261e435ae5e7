"""Comparison of two molecular structures, atom by atom, after each model of one was superposed on its counterpart.

1. Atoms are matched by what they are: model, chain, residue, name and alternate location. Their order in the file does not count. Atoms
   that are the same in all of this (water beyond residue 9999) are matched in the order in which they stand.
2. Both files have the same models and atoms. A deviation is the distance between an atom and its counterpart, after superposition of all
   atoms of the model unless the rule forgoes that.
3. An atom's magnitude, for the relative tolerance, is its distance from the centre of its model; without superposition, from the origin.
4. Nothing but identities and coordinates is compared: no remarks, occupancies, temperature factors, bonds or cells.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from jobs.comparison.arrays import worst_index
from jobs.comparison.reading import FileUnreadableError
from jobs.comparison.report import Tally
from jobs.comparison.rules import FileRule
from jobs.comparison.superposition import Points, superposed

ATOMS_MAX: Final = 1_000_000
"""Of one file, all models together; an atom takes about 300 bytes. As PDB, so many have more bytes than a file may."""
MODELS_MAX: Final = 100_000
"""Of one file; superposing a model takes about 100 microseconds, however small it is."""
COORDINATE_MAX: Final = 1e6
"""In angstrom, of magnitude: a hundredth of a millimetre. Squares of such numbers keep their precision."""


@dataclass
class Model:
    """Atoms as they stand in the file: what each is, as one text, and where it is, x, y and z one after the other."""

    identities: list[str] = field(default_factory=list)
    coordinates: array[float] = field(default_factory=lambda: array("d"))

    def points(self) -> Points:
        return np.frombuffer(self.coordinates, dtype=np.float64).reshape(-1, 3)


@dataclass(frozen=True)
class AtomName:
    """What an identity says of its atom, without spaces. `element`: its symbol in capitals, as far as the name tells."""

    chain: str
    residue: str
    residue_number: str
    name: str
    alternate: str
    element: str


Structure = Mapping[str, Model]
"""Models by their name."""


class StructureBuilder:
    """Gathers a file's atoms. Raises FileUnreadableError for a coordinate that is none, for too many atoms, and for none at all."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._models: dict[str, Model] = {}
        self._atoms = 0

    def add(self, model: str, identity: str, coordinates: Sequence[float]) -> None:
        self._atoms += 1
        if self._atoms > ATOMS_MAX:
            raise FileUnreadableError(f"{self._path}: expected at most {ATOMS_MAX} atoms; found more.")
        x, y, z = coordinates
        if not (abs(x) <= COORDINATE_MAX and abs(y) <= COORDINATE_MAX and abs(z) <= COORDINATE_MAX):  # NaN is not
            raise FileUnreadableError(f"{self._path}: expected coordinates of at most {COORDINATE_MAX:.0f} angstrom; found a larger one.")
        if (found := self._models.get(model)) is None:
            if len(self._models) == MODELS_MAX:
                raise FileUnreadableError(f"{self._path}: expected at most {MODELS_MAX} models; found more.")
            found = self._models[model] = Model()
        found.identities.append(identity)
        found.coordinates.extend(coordinates)

    def structure(self) -> Structure:
        if not self._models:
            raise FileUnreadableError(f"{self._path}: expected atoms, found none.")
        return self._models


def structures_compare(rule: FileRule, one: Structure, other: Structure, tally: Tally, *, describe: Callable[[str], str]) -> None:
    """`describe` says for people what an identity stands for. Adds the measure `rmsd`, over all matched atoms. Never raises."""
    for name in sorted(one.keys() ^ other.keys()):
        tally.disagrees(f"model {name}", *("present" if name in side else "missing" for side in (one, other)))
    square_sum, atoms = 0.0, 0
    for name in one:
        if name in other:
            pair = _pair_of(one[name], other[name])
            if isinstance(pair, _Unmatched):
                tally.disagrees(f"model {name}, {describe(pair.identity)}", pair.one, pair.other)
                continue
            distances, worst = _pair_compare(rule, pair, tally)
            if worst is not None:
                shown = [" ".join(f"{coordinate:.6g}" for coordinate in points[worst.atom]) for points in (pair.one, pair.other)]
                place = f"model {name}, {describe(pair.identities[worst.atom])}"
                tally.worst_is(place, shown[0], shown[1], worst.distance, worst.allowed)
            square_sum += float(np.square(distances).sum())
            atoms += len(distances)
    if atoms:
        tally.measures["rmsd"] = math.sqrt(square_sum / atoms)


@dataclass(frozen=True)
class _Pair:
    """Two models' atoms, matched: what each is, and where in the one and the other."""

    identities: list[str]
    one: Points
    other: Points


@dataclass(frozen=True)
class _Unmatched:
    """An atom that one model has more often than the other."""

    identity: str
    one: str
    other: str


def _pair_of(one: Model, other: Model) -> _Pair | _Unmatched:
    if one.identities == other.identities:
        return _Pair(one.identities, one.points(), other.points())
    orders = [sorted(range(len(model.identities)), key=model.identities.__getitem__) for model in (one, other)]
    first, second = ([model.identities[place] for place in order] for model, order in zip((one, other), orders, strict=True))
    if first == second:
        return _Pair(first, one.points()[orders[0]], other.points()[orders[1]])
    place = next(
        (place for place, (mine, yours) in enumerate(zip(first, second, strict=False)) if mine != yours), min(len(first), len(second))
    )
    if place == len(second) or (place < len(first) and first[place] < second[place]):
        return _Unmatched(first[place], "present", "missing")
    return _Unmatched(second[place], "missing", "present")


@dataclass(frozen=True)
class _Worst:
    """The atom that deviates most, by its place in the pair."""

    atom: int
    distance: float
    allowed: float


def _pair_compare(rule: FileRule, pair: _Pair, tally: Tally) -> tuple[NDArray[np.float64], _Worst | None]:
    """(the distance of each pair of atoms, the worst of them if it is worse than all before)."""
    count = len(pair.identities)
    tally.equal(count)
    if np.array_equal(pair.one, pair.other):
        return np.zeros(count), None
    distances, sizes = _distances(pair.one, pair.other, superpose=rule.superpose)
    allowed = rule.tolerance.absolute + rule.tolerance.relative * sizes
    tally.exceeding += int(np.count_nonzero(distances > allowed))
    atom = worst_index(distances, allowed)
    worst = _Worst(atom, float(distances[atom]), float(allowed[atom]))
    return distances, worst if tally.is_worst(worst.distance, worst.allowed) else None


def _distances(one: Points, other: Points, *, superpose: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(distances between counterparts, magnitudes). Of the two sets, that with the smaller bytes is turned onto the other: where several
    rotations are best, the same one is found for both orders of replicas."""
    if superpose:
        one, other = superposed(*sorted((one, other), key=lambda points: points.tobytes()))
    sizes = np.maximum(np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1))
    return np.linalg.norm(one - other, axis=1), sizes
