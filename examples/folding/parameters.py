"""What the two input files say: a sequence in FASTA and the simulation's parameters in JSON. Standard library only.

Both are the researcher's: whatever is wrong in them ends in `InputError`, whose text names the field, what was expected and what was found.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

AMINO_ACIDS = frozenset("ACDEFGHIKLMNPQRSTVWY")
RESIDUES_MIN, RESIDUES_MAX = 3, 60
STEPS_MAX = 10_000_000
TEMPERATURE_MAX_KELVIN = 1000.0


class InputError(Exception):
    """An input file does not say what this program can work with."""


@dataclass(frozen=True)
class Stage:
    """One stretch of the annealing: temperature goes linearly from `from_kelvin` to `to_kelvin`, in steps of one sample."""

    name: str
    from_kelvin: float
    to_kelvin: float
    steps: int


@dataclass(frozen=True)
class WatchedDistance:
    """A distance to report: atoms given as residue number (from 1) and PDB atom name."""

    name: str
    first: tuple[int, str]
    second: tuple[int, str]


@dataclass(frozen=True)
class Parameters:
    """Of one run. `steps_per_sample` divides each stage's steps, so that every sample stands at the same interval."""

    seed: int
    timestep_femtoseconds: float
    friction_per_picosecond: float
    hydrogen_mass_dalton: float
    minimise_iterations: int
    steps_per_sample: int
    stages: tuple[Stage, ...]
    watched_distances: tuple[WatchedDistance, ...]

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)


def sequence_parse(text: str) -> str:
    """The one sequence of a FASTA file, in one-letter codes. Raises `InputError`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith(">"):
        raise InputError("FASTA: expected a first line that starts with '>', found none.")
    if any(line.startswith(">") for line in lines[1:]):
        raise InputError("FASTA: expected one sequence, found more. Submit one job for each.")
    sequence = "".join(lines[1:]).upper()
    strange = sorted(set(sequence) - AMINO_ACIDS)
    if strange:
        raise InputError(f"FASTA: expected the 20 standard amino acids, found {strange[0]!r}.")
    if not RESIDUES_MIN <= len(sequence) <= RESIDUES_MAX:
        raise InputError(f"FASTA: expected {RESIDUES_MIN} to {RESIDUES_MAX} residues, found {len(sequence)}.")
    return sequence


def parameters_parse(text: str, *, residues: int) -> Parameters:
    """Parameters for a chain of `residues`; unknown and missing fields are refused. Raises `InputError`."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"Parameters: expected JSON, found something else: {error}") from error
    fields = _object(data, "parameters", {field.name for field in dataclasses.fields(Parameters)})
    steps_per_sample = _integer(fields["steps_per_sample"], "steps_per_sample", 1, 100_000)
    stages = tuple(
        _stage(item, f"stages[{index}]", steps_per_sample) for index, item in enumerate(_list(fields["stages"], "stages", smallest=1))
    )
    parameters = Parameters(
        # Zero would mean "choose one" to OpenMM, and then no two runs could agree.
        seed=_integer(fields["seed"], "seed", 1, 2**31 - 1),
        timestep_femtoseconds=_number(fields["timestep_femtoseconds"], "timestep_femtoseconds", 0.1, 4.0),
        friction_per_picosecond=_number(fields["friction_per_picosecond"], "friction_per_picosecond", 0.1, 1000.0),
        hydrogen_mass_dalton=_number(fields["hydrogen_mass_dalton"], "hydrogen_mass_dalton", 1.008, 4.0),
        minimise_iterations=_integer(fields["minimise_iterations"], "minimise_iterations", 1, 100_000),
        steps_per_sample=steps_per_sample,
        stages=stages,
        watched_distances=tuple(
            _distance(item, f"watched_distances[{index}]", residues)
            for index, item in enumerate(_list(fields["watched_distances"], "watched_distances", smallest=0))
        ),
    )
    if parameters.steps > STEPS_MAX:
        raise InputError(f"stages: expected at most {STEPS_MAX} steps in all, found {parameters.steps}.")
    return parameters


def _stage(value: object, where: str, steps_per_sample: int) -> Stage:
    fields = _object(value, where, {"name", "from_kelvin", "to_kelvin", "steps"})
    steps = _integer(fields["steps"], f"{where}.steps", 1, STEPS_MAX)
    if steps % steps_per_sample:
        raise InputError(f"{where}.steps: expected a multiple of steps_per_sample ({steps_per_sample}), found {steps}.")
    return Stage(
        name=_text(fields["name"], f"{where}.name"),
        from_kelvin=_number(fields["from_kelvin"], f"{where}.from_kelvin", 1.0, TEMPERATURE_MAX_KELVIN),
        to_kelvin=_number(fields["to_kelvin"], f"{where}.to_kelvin", 1.0, TEMPERATURE_MAX_KELVIN),
        steps=steps,
    )


def _distance(value: object, where: str, residues: int) -> WatchedDistance:
    fields = _object(value, where, {"name", "first", "second"})
    return WatchedDistance(
        name=_text(fields["name"], f"{where}.name"),
        first=_atom(fields["first"], f"{where}.first", residues),
        second=_atom(fields["second"], f"{where}.second", residues),
    )


def _atom(value: object, where: str, residues: int) -> tuple[int, str]:
    fields = _object(value, where, {"residue", "atom"})
    return _integer(fields["residue"], f"{where}.residue", 1, residues), _text(fields["atom"], f"{where}.atom")


def _object(value: object, where: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, found {type(value).__name__}.")
    if set(value) != names:
        wrong = min(set(value) ^ names)
        fault = "unknown" if wrong in value else "missing"
        raise InputError(f"{where}: expected exactly the fields {', '.join(sorted(names))}; {wrong!r:.80} is {fault}.")
    return value


def _list(value: object, where: str, *, smallest: int) -> list[object]:
    if not isinstance(value, list) or not smallest <= len(value) <= 100:
        raise InputError(f"{where}: expected a list of {smallest} to 100 items.")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        raise InputError(f"{where}: expected 1 to 64 characters, found {value!r:.80}.")
    return value


def _integer(value: object, where: str, smallest: int, largest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not smallest <= value <= largest:
        raise InputError(f"{where}: expected an integer from {smallest} to {largest}, found {value!r:.80}.")
    return value


def _number(value: object, where: str, smallest: float, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not smallest <= value <= largest:
        raise InputError(f"{where}: expected a number from {smallest:g} to {largest:g}, found {value!r:.80}.")
    return float(value)
