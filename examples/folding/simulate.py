"""Minimise, anneal, minimise again: Langevin dynamics in implicit solvent on OpenMM's Reference platform.

The friction is that of water and not the usual 1/ps: at 1/ps a difference of 1e-12 nm grows a hundredfold each picosecond and two
honest processors part within 6 ps; from 20/ps on, the shared random kicks pull trajectories together (README.md has the
measurements), so each sample can be compared between hosts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import chain
import numpy as np
import openmm
from openmm import app, unit
from parameters import Parameters

FORCE_TOLERANCE = 1.0
"""Where a minimisation may stop, root mean square, kJ/mol/nm."""
MINIMISE_ITERATIONS_AT_ONCE = 10
"""L-BFGS is as sensitive as the dynamics: 200 iterations in one go end 0.3 kJ/mol apart on two processors."""
CONSTRAINT_TOLERANCE = 1e-8
POSITION_DECIMALS_NM = 5
VELOCITY_DECIMALS = 3
"""Of nm/ps. A thermal velocity is 0.3 to 3 nm/ps."""


@dataclass(frozen=True)
class Sample:
    """The state after `step` steps. Energies in kJ/mol, positions in nm, shape (atoms, 3)."""

    stage: str
    step: int
    time_picoseconds: float
    target_kelvin: float
    potential: float
    kinetic: float
    positions: np.ndarray


@dataclass(frozen=True)
class Folding:
    """What a run gave: the chain as built, after the first minimisation, and at the end; energies in kJ/mol."""

    energy_built: float
    energy_minimised: float
    energy_final: float
    positions_final: np.ndarray


def fold(topology: Any, positions: np.ndarray, parameters: Parameters, on_sample: Callable[[Sample], None]) -> Folding:
    """Run all stages, calling `on_sample` after every `steps_per_sample` steps."""
    system = chain.force_field().createSystem(
        topology, nonbondedMethod=app.NoCutoff, constraints=app.HBonds, hydrogenMass=parameters.hydrogen_mass_dalton
    )
    integrator = openmm.LangevinMiddleIntegrator(
        parameters.stages[0].from_kelvin, parameters.friction_per_picosecond, parameters.timestep_femtoseconds / 1000
    )
    integrator.setRandomNumberSeed(parameters.seed)
    integrator.setConstraintTolerance(CONSTRAINT_TOLERANCE)
    context = openmm.Context(system, integrator, chain.reference_platform())
    context.setPositions(positions)
    energy_built, _ = _energies(context)
    energy_minimised = _minimise(context, parameters)
    context.setVelocitiesToTemperature(parameters.stages[0].from_kelvin, parameters.seed)
    _round(context)

    step = 0
    for stage in parameters.stages:
        samples = stage.steps // parameters.steps_per_sample
        for index in range(samples):
            target = stage.from_kelvin + (stage.to_kelvin - stage.from_kelvin) * (index + 1) / samples
            integrator.setTemperature(target)
            integrator.step(parameters.steps_per_sample)
            _round(context)
            step += parameters.steps_per_sample
            potential, kinetic = _energies(context)
            on_sample(
                Sample(
                    stage=stage.name,
                    step=step,
                    time_picoseconds=step * parameters.timestep_femtoseconds / 1000,
                    target_kelvin=target,
                    potential=potential,
                    kinetic=kinetic,
                    positions=_positions(context),
                )
            )
    energy_final = _minimise(context, parameters)
    return Folding(energy_built, energy_minimised, energy_final, _positions(context))


def _minimise(context: Any, parameters: Parameters) -> float:
    for done in range(0, parameters.minimise_iterations, MINIMISE_ITERATIONS_AT_ONCE):
        iterations = min(MINIMISE_ITERATIONS_AT_ONCE, parameters.minimise_iterations - done)
        openmm.LocalEnergyMinimizer.minimize(context, FORCE_TOLERANCE, iterations)
        _round(context)
    return _energies(context)[0]


def _round(context: Any) -> None:
    """Forget the digits in which processors differ."""
    state = context.getState(getPositions=True, getVelocities=True)
    positions = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    velocities = state.getVelocities(asNumpy=True).value_in_unit(unit.nanometer / unit.picosecond)
    context.setPositions(np.round(positions, POSITION_DECIMALS_NM))
    context.applyConstraints(CONSTRAINT_TOLERANCE)
    context.setVelocities(np.round(velocities, VELOCITY_DECIMALS))
    context.applyVelocityConstraints(CONSTRAINT_TOLERANCE)


def _energies(context: Any) -> tuple[float, float]:
    state = context.getState(getEnergy=True)
    per = unit.kilojoule_per_mole
    return state.getPotentialEnergy().value_in_unit(per), state.getKineticEnergy().value_in_unit(per)


def _positions(context: Any) -> np.ndarray:
    state = context.getState(getPositions=True)
    return np.array(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
