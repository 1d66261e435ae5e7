"""Fold a peptide: a sequence and parameters in, a structure, its energies and its measures out.

Reads the two files named on the command line under $NEXA_INPUTS, writes `final.pdb`, `energies.csv` and
`summary.json` under $NEXA_OUTPUTS. Ends with 2 and one line on standard error when an input is not usable. Nothing that tells machines
apart (times, versions of the kernel, names) goes into an output: equal work gives equal files.
"""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import chain
import measure
import openmm
from openmm import app, unit
from parameters import InputError, Parameters, parameters_parse, sequence_parse
from simulate import Folding, Sample, fold

DIGITS = 6
"""Decimals written: honest runs differ from the tenth on."""
COLUMNS = ("step", "time_ps", "target_kelvin", "potential_kj_mol", "kinetic_kj_mol", "radius_of_gyration_nm", "end_to_end_nm")
REPORTS = 100
"""Progress lines at most."""


def main(arguments: list[str]) -> int:
    inputs, outputs = Path(os.environ.get("NEXA_INPUTS", "/inputs")), Path(os.environ.get("NEXA_OUTPUTS", "/outputs"))
    if len(arguments) != 2:
        print("Usage: fold.py SEQUENCE.fasta PARAMETERS.json", file=sys.stderr)
        return 2
    try:
        sequence = sequence_parse((inputs / arguments[0]).read_text(encoding="utf-8"))
        parameters = parameters_parse((inputs / arguments[1]).read_text(encoding="utf-8"), residues=len(sequence))
        run(sequence, parameters, outputs)
    except (InputError, OSError, UnicodeDecodeError) as error:
        print(f"fold: {error}", file=sys.stderr)
        return 2
    return 0


def run(sequence: str, parameters: Parameters, outputs: Path) -> None:
    """Fold and write the three files."""
    progress(0.0, "building")
    topology, positions = chain.chain_build(sequence, seed=parameters.seed)
    named = measure.Chain(topology)
    named.watched(positions, parameters.watched_distances)  # names that don't exist are better found now
    start = positions
    every = max(1, parameters.steps // parameters.steps_per_sample // REPORTS)

    progress(0.0, "minimising")
    with (outputs / "energies.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)

        def on_sample(sample: Sample) -> None:
            measures = (named.radius_of_gyration(sample.positions), named.end_to_end(sample.positions))
            numbers = (sample.time_picoseconds, sample.target_kelvin, sample.potential, sample.kinetic, *measures)
            writer.writerow([sample.step, *(f"{number:.{DIGITS}f}" for number in numbers)])
            if sample.step // parameters.steps_per_sample % every == 0:
                progress(sample.step / parameters.steps, sample.stage)

        folding = fold(topology, positions, parameters, on_sample)

    progress(1.0, "measuring")
    summary = summarise(sequence, parameters, named, start, folding)
    (outputs / "summary.json").write_text(json.dumps(summary, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    structure_write(outputs / "final.pdb", sequence, topology, folding)


def summarise(sequence: str, parameters: Parameters, named: measure.Chain, start: Any, folding: Folding) -> dict[str, object]:
    """The measures of the extended chain and of the final structure, side by side."""
    final = folding.positions_final
    helix, strand = named.helix_and_strand_fractions(final)
    bonds = named.hydrogen_bonds(final)
    return {
        "sequence": sequence,
        "force_field": "amber99sbildn + amber99_obc",
        "openmm_version": openmm.__version__,
        "atoms": len(final),
        "steps": parameters.steps,
        "simulated_ps": round(parameters.steps * parameters.timestep_femtoseconds / 1000, DIGITS),
        "energy_built_kj_mol": round(folding.energy_built, DIGITS),
        "energy_minimised_kj_mol": round(folding.energy_minimised, DIGITS),
        "energy_final_kj_mol": round(folding.energy_final, DIGITS),
        "radius_of_gyration_start_nm": round(named.radius_of_gyration(start), DIGITS),
        "radius_of_gyration_final_nm": round(named.radius_of_gyration(final), DIGITS),
        "end_to_end_start_nm": round(named.end_to_end(start), DIGITS),
        "end_to_end_final_nm": round(named.end_to_end(final), DIGITS),
        "contacts_start": named.contacts(start),
        "contacts_final": named.contacts(final),
        "hydrogen_bonds": bonds,
        "hydrogen_bond_count": len(bonds),
        "helix_fraction": round(helix, DIGITS),
        "strand_fraction": round(strand, DIGITS),
        "watched_distances_nm": {name: round(value, DIGITS) for name, value in named.watched(final, parameters.watched_distances).items()},
    }


def structure_write(path: Path, sequence: str, topology: Any, folding: Folding) -> None:
    """A PDB file without the date that OpenMM's own header carries."""
    with path.open("w", encoding="ascii") as file:
        print(f"REMARK   1 {sequence} FOLDED BY SIMULATED ANNEALING, {folding.energy_final:.3f} KJ/MOL", file=file)
        app.PDBFile.writeModel(topology, folding.positions_final * unit.nanometer, file)
        app.PDBFile.writeFooter(topology, file)


def progress(fraction: float, stage: str) -> None:
    """A line that the host shows as progress."""
    print(json.dumps({"nexa_progress": round(fraction, 4), "stage": stage}), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
