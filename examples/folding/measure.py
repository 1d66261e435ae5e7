"""What a folded chain looks like in numbers. Lengths in nm, angles in degrees, energies in kJ/mol."""

from __future__ import annotations

from typing import Any

import numpy as np
from parameters import InputError, WatchedDistance

HYDROGEN_BOND_ENERGY = -0.5 * 4.184
"""Kabsch and Sander 1983: a bond is where the electrostatic energy is below -0.5 kcal/mol."""
KABSCH_SANDER_FACTOR = 0.084 * 33.2 * 4.184
"""q1 q2 f of the same paper, with distances in nm instead of angstrom."""
CONTACT_NM = 0.8
CONTACT_SEPARATION = 3


class Chain:
    """Names the atoms of one topology, so that measures can be taken from plain arrays of positions."""

    def __init__(self, topology: Any) -> None:
        self._residues = [{atom.name: atom.index for atom in residue.atoms()} for residue in topology.residues()]
        self._masses = np.array([atom.element.mass._value for atom in topology.atoms()])
        self._prolines = [residue.name == "PRO" for residue in topology.residues()]

    @property
    def residues(self) -> int:
        return len(self._residues)

    def atom(self, residue: int, name: str) -> int:
        """Index of an atom; residues count from 1. Raises `InputError`."""
        try:
            return int(self._residues[residue - 1][name])
        except KeyError:
            known = ", ".join(self._residues[residue - 1])
            raise InputError(f"watched_distances: expected an atom of residue {residue} ({known}), found {name!r}.") from None

    def radius_of_gyration(self, positions: np.ndarray) -> float:
        centre = np.average(positions, axis=0, weights=self._masses)
        return float(np.sqrt(np.average(((positions - centre) ** 2).sum(axis=1), weights=self._masses)))

    def end_to_end(self, positions: np.ndarray) -> float:
        """Between the first and the last alpha carbon."""
        return self.distance(positions, (1, "CA"), (self.residues, "CA"))

    def distance(self, positions: np.ndarray, first: tuple[int, str], second: tuple[int, str]) -> float:
        return float(np.linalg.norm(positions[self.atom(*first)] - positions[self.atom(*second)]))

    def watched(self, positions: np.ndarray, distances: tuple[WatchedDistance, ...]) -> dict[str, float]:
        return {each.name: self.distance(positions, each.first, each.second) for each in distances}

    def contacts(self, positions: np.ndarray) -> int:
        """Pairs of alpha carbons nearer than 0.8 nm whose residues are at least three apart along the chain."""
        carbons = positions[[atoms["CA"] for atoms in self._residues]]
        apart = np.linalg.norm(carbons[:, None] - carbons[None], axis=2)
        return int(np.count_nonzero(np.triu(apart < CONTACT_NM, k=CONTACT_SEPARATION)))

    def hydrogen_bonds(self, positions: np.ndarray) -> list[str]:
        """Backbone bonds as "donor>acceptor" residue numbers, donors ascending (Kabsch and Sander 1983)."""
        found = []
        for donor in range(1, self.residues):
            # The first residue has an ammonium group, proline has no hydrogen to give.
            if self._prolines[donor]:
                continue
            nitrogen, hydrogen = (positions[self._residues[donor][name]] for name in ("N", "H"))
            for acceptor in range(self.residues):
                if abs(donor - acceptor) < 2:
                    continue
                carbon, oxygen = (positions[self._residues[acceptor][name]] for name in ("C", "O"))
                pairs = ((oxygen, nitrogen), (carbon, hydrogen), (oxygen, hydrogen), (carbon, nitrogen))
                inverse = [1 / np.linalg.norm(a - b) for a, b in pairs]
                if KABSCH_SANDER_FACTOR * (inverse[0] + inverse[1] - inverse[2] - inverse[3]) < HYDROGEN_BOND_ENERGY:
                    found.append(f"{donor + 1}>{acceptor + 1}")
        return found

    def torsions(self, positions: np.ndarray) -> list[tuple[float, float]]:
        """phi and psi of each inner residue."""
        angles = []
        for index in range(1, self.residues - 1):
            before, here, after = self._residues[index - 1 : index + 2]
            n, ca, c = (positions[here[name]] for name in ("N", "CA", "C"))
            angles.append((_dihedral(positions[before["C"]], n, ca, c), _dihedral(n, ca, c, positions[after["N"]])))
        return angles

    def helix_and_strand_fractions(self, positions: np.ndarray) -> tuple[float, float]:
        """Shares of inner residues in the alpha and in the beta region of the Ramachandran plot."""
        angles = self.torsions(positions)
        helix = sum(-100 <= phi <= -30 and -80 <= psi <= -5 for phi, psi in angles)
        strand = sum(-180 <= phi <= -45 and (psi >= 45 or psi <= -150) for phi, psi in angles)
        return helix / len(angles), strand / len(angles)


def _dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> float:
    axis = (c - b) / np.linalg.norm(c - b)
    first, second = (a - b) - np.dot(a - b, axis) * axis, (d - c) - np.dot(d - c, axis) * axis
    return float(np.degrees(np.arctan2(np.dot(np.cross(axis, first), second), np.dot(first, second))))
