"""From a sequence to an all-atom chain with hydrogens, extended, the same on every machine to the last digit.

Two things would differ from machine to machine: the last bits of the trigonometry that places the atoms, and the random
directions in which OpenMM first puts hydrogens. So the generator is seeded, the Reference platform settles the hydrogens, and
coordinates are rounded to 1e-4 nm twice, which takes differences of 1e-15 nm away.
"""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import PeptideBuilder
from Bio.PDB import PDBIO
from openmm import Platform, app, unit
from PeptideBuilder import Geometry

DECIMALS_NM = 4


def force_field() -> Any:
    """AMBER ff99SB-ILDN (Lindorff-Larsen 2010) with the OBC generalised Born solvent (Onufriev 2004)."""
    return app.ForceField("amber99sbildn.xml", "amber99_obc.xml")


def reference_platform() -> Any:
    """OpenMM's plain double-precision code on one thread: the order of its sums never changes."""
    return Platform.getPlatformByName("Reference")


def chain_build(sequence: str, *, seed: int) -> tuple[Any, np.ndarray]:
    """The topology and its positions, shape (atoms, 3), in nm, hydrogens for pH 7 included."""
    structure = PeptideBuilder.initialize_res(Geometry.geometry(sequence[0]))
    for residue in sequence[1:]:
        PeptideBuilder.add_residue(structure, Geometry.geometry(residue))
    PeptideBuilder.add_terminal_OXT(structure)
    text = io.StringIO()
    writer = PDBIO()
    writer.set_structure(structure)
    writer.save(text)  # a PDB file holds 1e-4 nm: the first rounding
    text.seek(0)
    heavy = app.PDBFile(text)

    random.seed(seed)  # Modeller takes its directions from the module's generator
    modeller = app.Modeller(heavy.topology, heavy.positions)
    modeller.addHydrogens(force_field(), pH=7.0, platform=reference_platform())
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    return modeller.topology, np.round(positions, DECIMALS_NM)
