"""For every format: whatever the bytes, the answer is the same in both orders, or the file is unreadable; a file agrees with itself; more
tolerance never means less agreement."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.comparison.comparators import COMPARATORS
from jobs.comparison.rules import EXACTLY, FileRule, Tolerance
from jobs.descriptor.formats import FileFormat, NanPolicy, RowOrder
from tests.fuzz.mutation import mutated
from tests.jobs.comparison.seeds import SEEDS
from tests.jobs.comparison.sides import attempt

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")

FORMATS = list(FileFormat)
tolerances = st.builds(Tolerance, absolute=st.floats(0, 1e300), relative=st.floats(0, 1))
rules = st.fixed_dictionaries(
    {
        "columns": st.dictionaries(st.sampled_from(["t", "x", "1"]), tolerances, max_size=1),
        "nan": st.sampled_from(NanPolicy),
        "header": st.sampled_from([None, True, False]),
        "superpose": st.booleans(),
    }
) | st.fixed_dictionaries({"order": st.just(RowOrder.ANY), "key": st.sampled_from([("t",), ("1",), ("x", "t")])})


@st.composite
def pairs(draw: st.DrawFn) -> tuple[FileFormat, bytes, bytes]:
    """Two files of a format: arbitrary bytes, or a valid file and what a few changes make of it."""
    kind = draw(st.sampled_from(FORMATS))
    seed = draw(st.sampled_from(SEEDS[kind]))
    source = random.Random(draw(st.integers(0, 2**64)))
    changed = [mutated(seed, source, draw(st.integers(0, 3))) for _ in range(2)]
    one, other = (draw(st.binary(max_size=60)) if draw(st.integers(0, 9)) == 0 else side for side in changed)
    return kind, one, other


@settings(max_examples=400, deadline=None)
@given(pair=pairs(), tolerance=tolerances, options=rules)
def test_any_bytes_give_a_symmetric_answer_or_are_unreadable(
    pair: tuple[FileFormat, bytes, bytes], tolerance: Tolerance, options: dict[str, Any]
) -> None:
    kind, one, other = pair
    found = attempt(FileRule("a", kind, tolerance, **options), one, other)
    if found is not None:
        found.document()
        wider = attempt(FileRule("a", kind, Tolerance(tolerance.absolute * 2, tolerance.relative), **options), one, other)
        assert wider is not None
        assert wider.exceeding <= found.exceeding


@settings(max_examples=300, deadline=None)
@given(pair=pairs(), options=rules)
def test_readable_file_agrees_with_itself_without_any_tolerance_unless_nan_is_refused(
    pair: tuple[FileFormat, bytes, bytes], options: dict[str, Any]
) -> None:
    kind, data, _ = pair
    found = attempt(FileRule("a", kind, EXACTLY, **options), data, bytes(data))
    if found is None or found.exceeding == 0:
        assert found is None or found.worst is None
    else:
        assert options["nan"] is NanPolicy.REFUSE
        assert found.worst is not None
        assert "nan" in found.worst.one.lower()


def test_every_format_has_a_comparator_and_a_seed_that_it_reads() -> None:
    assert set(COMPARATORS) == set(FileFormat) == set(SEEDS)
    for kind, seeds in SEEDS.items():
        for seed in seeds:
            found = attempt(FileRule("a", kind), seed, seed)
            assert found is not None
            assert (found.exceeding, found.worst) == (0, None)
            assert found.compared > 0


def test_no_warning_is_given_for_any_numbers() -> None:
    """Overflow, invalid operations and the like are answers, not warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in (FileFormat.NPY, FileFormat.NPZ, FileFormat.PDB):
            for one in SEEDS[kind]:
                for other in SEEDS[kind]:
                    attempt(FileRule("a", kind, Tolerance(1e308, 1.0)), one, other)
