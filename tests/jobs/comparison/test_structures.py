"""PDB and mmCIF: matching of atoms, superposition, and what can't be read."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from jobs.comparison import FileUnreadableError, structures
from jobs.comparison import mmcif as mmcifs
from jobs.comparison import pdb as pdbs
from jobs.comparison.comparators import files_compare
from jobs.comparison.rules import EXACTLY, FileRule, Tolerance
from jobs.comparison.superposition import superposed
from tests.jobs.comparison.sides import agree, compared, rule_of

Points = NDArray[np.float64]
NEAR = Tolerance(absolute=0.01)
RULE = rule_of("a.pdb", NEAR)
NAMES = ("N", "CA", "C", "O", "CB", "CG")
SHAPE: Points = np.array([[0, 0, 0], [1.5, 0, 0], [2.1, 1.4, 0], [1.4, 2.4, 0.1], [1.9, -0.8, 1.2], [3.4, -1.0, 1.1]])
"""Six atoms that are the mirror image of nothing but themselves mirrored."""


def pdb(*models: Points, names: Sequence[str] = NAMES, chain: str = "A") -> str:
    lines = ["REMARK made by a test"]
    for number, points in enumerate(models, start=1):
        lines.append(f"MODEL     {number:4d}")
        for place, (x, y, z) in enumerate(points):
            name = f" {names[place % len(names)]:<3s}"
            residue = place // len(names) + 1
            lines.append(f"ATOM  {place + 1:5d} {name} GLY {chain}{residue:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C")
        lines.append("ENDMDL")
    return "\n".join([*lines, "END", ""])


COLUMNS = ("group_PDB", "label_atom_id", "label_alt_id", "label_comp_id", "label_asym_id", "label_seq_id", "Cartn_x", "Cartn_y", "Cartn_z",
           "pdbx_PDB_model_num")  # fmt: skip


def mmcif(*models: Points, columns: Sequence[str] = COLUMNS, name: str = '"O5\'"') -> str:
    lines = [
        "data_test",
        "_entry.id 'a test'",
        "_struct.title",
        ";of many",
        "lines",
        ";",
        "loop_",
        *(f"_atom_site.{each}" for each in columns),
    ]
    for number, points in enumerate(models, start=1):
        for place, (x, y, z) in enumerate(points):
            values = {
                "group_PDB": "ATOM", "label_atom_id": NAMES[place] if place else name, "label_alt_id": ".", "label_comp_id": "GLY",
                "label_asym_id": "A", "label_seq_id": "1", "auth_asym_id": "Z", "auth_seq_id": "7", "pdbx_PDB_model_num": str(number),
                "Cartn_x": f"{x:.6f}", "Cartn_y": f"{y:.6f}", "Cartn_z": f"{z:.6f}",
            }  # fmt: skip
            lines.append(" ".join(values.get(column, "?") for column in columns))
    return "\n".join([*lines, "# end", ""])


def rotation(axis: Sequence[float], angle: float) -> Points:
    """The matrix by Rodrigues' formula."""
    x, y, z = np.array(axis) / math.sqrt(sum(part * part for part in axis))
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned: Points = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    return turned


angles = st.floats(-math.pi, math.pi)
axes = st.tuples(st.floats(0.1, 1), st.floats(-1, 1), st.floats(-1, 1))
shifts = st.tuples(*[st.floats(-100, 100)] * 3)
points = st.lists(st.tuples(*[st.floats(-50, 50).map(lambda number: round(number, 3))] * 3), min_size=1, max_size=12)


@settings(max_examples=50, deadline=None)
@given(axis=axes, angle=angles, shift=shifts, data=points)
def test_rigid_motion_makes_no_difference(axis: Sequence[float], angle: float, shift: Sequence[float], data: list[Sequence[float]]) -> None:
    one = np.array(data)
    other = one @ rotation(axis, angle).T + np.array(shift)
    assert np.allclose(*superposed(one, other), atol=1e-9)
    assert agree(RULE, pdb(one), pdb(other))
    found = compared(rule_of("a.cif", Tolerance(absolute=1e-4)), mmcif(SHAPE), mmcif(SHAPE @ rotation(axis, angle).T + np.array(shift)))
    assert found.exceeding == 0
    assert found.measures["rmsd"] < 1e-4


@settings(max_examples=50, deadline=None)
@given(axis=axes, angle=angles, shift=shifts)
def test_mirror_image_is_another_molecule(axis: Sequence[float], angle: float, shift: Sequence[float]) -> None:
    mirrored = (SHAPE * [1, 1, -1]) @ rotation(axis, angle).T + np.array(shift)
    assert not agree(RULE, pdb(SHAPE), pdb(mirrored))


@settings(max_examples=50, deadline=None)
@given(one=points, noise=st.integers(0, 2**32 - 1))
def test_superposition_is_the_best_there_is(one: list[Sequence[float]], noise: int) -> None:
    random = np.random.default_rng(noise)
    first = np.array(one)
    second = first @ rotation(random.normal(size=3).tolist(), 1.0) + random.normal(size=first.shape)
    moved, target = superposed(first, second)
    least = np.square(moved - target).sum()
    for _ in range(5):
        turned = moved @ rotation(random.normal(size=3).tolist(), random.normal() / 10)
        assert np.square(turned - target).sum() >= least - 1e-6


@settings(max_examples=100, deadline=None)
@given(one=points, other=points, absolute=st.floats(0, 10), relative=st.floats(0, 1), superpose=st.booleans())
def test_any_two_structures_are_compared_symmetrically(
    one: list[Sequence[float]], other: list[Sequence[float]], absolute: float, relative: float, superpose: bool
) -> None:
    count = min(len(one), len(other))
    rule = rule_of("a.pdb", Tolerance(absolute, relative), superpose=superpose)
    found = compared(rule, pdb(np.array(one[:count])), pdb(np.array(other[:count])))
    assert found.compared == count
    if found.exceeding == 0:
        wider = rule_of("a.pdb", Tolerance(absolute * 2, relative), superpose=superpose)
        assert agree(wider, pdb(np.array(one[:count])), pdb(np.array(other[:count])))


@pytest.mark.parametrize("shape", [SHAPE[:1], SHAPE[:2], SHAPE[:3], np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0.0]]), np.zeros((4, 3))])
def test_degenerate_shapes_are_superposed(shape: Points) -> None:
    turned = shape @ rotation([1, 2, 3], 1.0).T + 5
    assert agree(RULE, pdb(shape), pdb(turned))
    assert agree(rule_of("a.pdb", EXACTLY), pdb(shape), pdb(shape))
    if len(shape) == 1:
        assert not agree(rule_of("a.pdb", NEAR, superpose=False), pdb(shape), pdb(turned))


def test_worst_atom_is_named_with_its_distance_and_the_rmsd() -> None:
    moved = SHAPE.copy()
    moved[4, 2] += 0.5
    found = compared(rule_of("a.pdb", NEAR, superpose=False), pdb(SHAPE, SHAPE), pdb(SHAPE, moved))
    assert (found.compared, found.exceeding) == (12, 1)
    assert found.worst is not None
    assert (found.worst.place, found.worst.one, found.worst.other) == (
        "model 2, chain A, residue 1 GLY, atom CB",
        "1.9 -0.8 1.2",
        "1.9 -0.8 1.7",
    )
    assert found.worst.difference == pytest.approx(0.5)
    assert found.worst.allowed == 0.01
    assert found.measures["rmsd"] == pytest.approx(0.5 / math.sqrt(12))
    assert found.document()["rmsd"] == found.measures["rmsd"]
    with_superposition = compared(RULE, pdb(SHAPE), pdb(moved))
    assert with_superposition.measures["rmsd"] < 0.5 / math.sqrt(6)


def test_relative_tolerance_is_of_the_distance_from_the_centre() -> None:
    one, other = np.array([[-100, 0, 0], [100, 0, 0.0]]), np.array([[-100.9, 0, 0], [100.9, 0, 0.0]])
    assert agree(rule_of("a.pdb", Tolerance(relative=0.01)), pdb(one + 500), pdb(other))
    assert not agree(rule_of("a.pdb", Tolerance(relative=0.008)), pdb(one + 500), pdb(other))


@pytest.mark.parametrize("make", [pdb, mmcif])
def test_models_are_superposed_each_on_its_own_and_must_be_the_same(make: object) -> None:
    path, write = ("a.pdb", pdb) if make is pdb else ("a.cif", mmcif)
    turned = SHAPE @ rotation([1, 1, 0], 2.0).T
    assert agree(rule_of(path, NEAR), write(SHAPE, SHAPE), write(turned, SHAPE + 3))
    found = compared(rule_of(path, NEAR), write(SHAPE, SHAPE), write(SHAPE))
    assert found.worst is not None
    assert (found.worst.place, found.exceeding) == ("model 2", 1)


def test_atoms_are_matched_by_what_they_are_and_not_by_their_order() -> None:
    lines = pdb(SHAPE).splitlines()
    atoms = [line for line in lines if line.startswith("ATOM")]
    moved = [line[:6] + "    0" + line[11:] for line in reversed(atoms)]
    assert agree(rule_of("a.pdb", EXACTLY), pdb(SHAPE), "\n".join(moved))


@pytest.mark.parametrize(
    ("old", "new", "atom"),
    [
        (" CB ", " CX ", "chain A, residue 1 GLY, atom CB"),
        (" CA ", "CA  ", "chain A, residue 1 GLY, atom CA"),
        ("CG  GLY", "CG BGLY", "chain A, residue 1 GLY, atom CG"),
        ("A   1    ", "B   1    ", None),
        ("A   1 ", "A   1C", None),
    ],
)
def test_atom_that_one_side_lacks_differs_and_is_named(old: str, new: str, atom: str | None) -> None:
    found = compared(RULE, pdb(SHAPE), pdb(SHAPE).replace(old, new, 1 if atom else -1))
    assert found.exceeding == 1
    assert found.worst is not None
    if atom is not None:
        assert found.worst.place.startswith(f"model 1, {atom}")


def test_atoms_that_are_the_same_by_name_are_matched_in_their_order() -> None:
    water = np.array([[0, 0, 0], [3, 0, 0], [0, 4, 0], [5, 5, 5.0]])
    assert agree(RULE, pdb(water, names=("OW",)).replace("A   2", "A   1"), pdb(water, names=("OW",)).replace("A   2", "A   1"))
    found = compared(RULE, pdb(water, names=("OW",)), pdb(water[:3], names=("OW",)))
    assert found.worst is not None
    assert (found.worst.place, found.worst.other) == ("model 1, chain A, residue 4 GLY, atom OW", "missing")


def test_frames_that_only_end_tells_apart_are_models() -> None:
    frames = pdb(SHAPE).replace("ENDMDL\n", "").replace("MODEL        1\n", "")
    found = compared(RULE, frames + frames, frames + frames)
    assert (found.compared, found.exceeding) == (12, 0)


ATOM = "ATOM      1  CA  GLY A   1       0.000   0.000   0.000  1.00  0.00           C\n"


@pytest.mark.parametrize(
    "data",
    [
        "",
        "REMARK nothing\n",
        ATOM[:53],
        *(
            ATOM.replace("   0.000", field, 1)
            for field in ("     nan", "     inf", "   1e500", "   1_000", "0.000.00", "        ", "   0,000")
        ),
        ATOM.replace("CA", "C\xe4"),
        "ATOM  " + "*" * 70,
    ],
)
def test_pdb_that_cannot_be_read_is_unreadable_on_either_side(data: str) -> None:
    for one, other in ((data, ATOM), (ATOM, data)):
        with pytest.raises(FileUnreadableError) as caught:
            files_compare(RULE, one.encode(), other.encode())
        assert caught.value.code == "output_unreadable"


def test_atoms_and_models_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structures, "MODELS_MAX", 2)
    assert agree(RULE, pdb(SHAPE, SHAPE), pdb(SHAPE, SHAPE))
    with pytest.raises(FileUnreadableError, match="at most 2 models"):
        compared(RULE, pdb(SHAPE, SHAPE, SHAPE), pdb(SHAPE, SHAPE, SHAPE))
    monkeypatch.setattr(structures, "ATOMS_MAX", 5)
    with pytest.raises(FileUnreadableError, match="at most 5 atoms"):
        compared(RULE, pdb(SHAPE), pdb(SHAPE))


@pytest.mark.parametrize(("module", "name", "path"), [(pdbs, "LINES_MAX", "a.pdb"), (mmcifs, "_TOKENS_MAX", "a.cif")])
def test_lines_and_tokens_are_bounded(module: object, name: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, 20)
    write = pdb if path == "a.pdb" else mmcif
    with pytest.raises(FileUnreadableError, match="at most 20"):
        compared(rule_of(path), write(SHAPE, SHAPE, SHAPE), write(SHAPE, SHAPE, SHAPE))


def test_mmcif_is_compared_as_pdb_is() -> None:
    moved = SHAPE.copy()
    moved[0, 0] -= 0.5
    rule = rule_of("a.cif", NEAR, superpose=False)
    found = compared(rule, mmcif(SHAPE), mmcif(moved, name="O5'"))
    assert found.worst is not None
    assert (found.worst.place, found.exceeding) == ("model 1, chain A, residue 1 GLY, atom O5'", 1)
    author = (*COLUMNS, "auth_asym_id", "auth_seq_id", "pdbx_PDB_ins_code")
    found = compared(rule, mmcif(SHAPE, columns=author), mmcif(moved, columns=author))
    assert found.worst is not None
    assert found.worst.place == "model 1, chain Z, residue 7 GLY, atom O5'"


def test_mmcif_rows_may_be_broken_into_lines_and_columns_stand_in_any_order() -> None:
    broken = mmcif(SHAPE).replace(" GLY ", "\n# comment\nGLY ")
    assert agree(rule_of("a.cif", EXACTLY), mmcif(SHAPE), broken)
    assert agree(rule_of("a.cif", EXACTLY), mmcif(SHAPE), mmcif(SHAPE, columns=COLUMNS[::-1]))
    assert agree(rule_of("a.cif", EXACTLY), mmcif(SHAPE), mmcif(SHAPE) + "loop_\n_atom_type.symbol\nC\nN\ndata_next\n_x.y 1\n")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("_atom_site.Cartn_x", "_atom_site.x", "missing"),
        ("_atom_site.Cartn_x", "_atom_site.Cartn_y", "each once"),
        ("0.000000 0.000000 0.000000", "0.000000 0.000000 nan", "numbers as coordinates"),
        ("0.000000 0.000000 0.000000", "0.000000 0.000000 1e999", "at most 1000000 angstrom"),
        ("0.000000 0.000000 0.000000", "0.000000 0.000000", "values in each row"),
        ("0.000000 0.000000 0.000000", "0.000000 0.000000 ?", "numbers as coordinates"),
        ("ATOM CA", "ATOM 'CA", "quoted value"),
        ("ATOM CA", "ATOM\n;CA\n;\n", "names of atoms"),
        ("ATOM CA", "ATOM " + "C" * 81, "names of atoms"),
        ("ATOM CA", "ATOM\n;CA\n", "end of a text field"),
        ("loop_\n", "_atom_site.id 1\nloop_\n", "in a loop"),
        ("# end", mmcif(SHAPE), "one loop"),
        ("loop_", "loop_\n" + "_a.b\n" * 300, "in a loop"),
        ("ATOM", "", "values in each row|numbers"),
    ],
)
def test_mmcif_that_cannot_be_read_is_unreadable_on_either_side(old: str, new: str, message: str) -> None:
    bad = mmcif(SHAPE).replace(old, new, 1)
    for one, other in ((bad, mmcif(SHAPE)), (mmcif(SHAPE), bad)):
        with pytest.raises(FileUnreadableError, match=message):
            files_compare(rule_of("a.cif", NEAR), one.encode(), other.encode())


@pytest.mark.parametrize("line", ["'a " * 200_000, "'a'" * 200_000, '"' * 500_000, "# '" * 200_000, "'" + "a" * 900_000 + "' "])
def test_hostile_lines_cost_little_time(line: str) -> None:
    data = (line + "\n" + mmcif(SHAPE)).encode()
    started = time.process_time()
    with contextlib.suppress(FileUnreadableError):
        files_compare(rule_of("a.cif", NEAR), data, data)
    assert time.process_time() - started < 2


def test_thousands_of_models_are_compared() -> None:
    rule: FileRule = rule_of("a.pdb", NEAR)
    one, other = pdb(*[SHAPE] * 2000), pdb(*[SHAPE + 1] * 2000)
    found = compared(rule, one, other)
    assert (found.compared, found.exceeding) == (12_000, 0)
