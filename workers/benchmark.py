"""The benchmark of a host: double precision GFLOP/s of one core, in compiled code whose speed Python does not bound.

What it measures: `math.dist` over two points of 2,048 coordinates: per coordinate a subtraction, and in CPython's `vector_norm`
(Modules/mathmodule.c) the square by an error-free product and compensated sums. Counted as 3 operations a coordinate (subtract,
multiply, add): the useful ones of a Euclidean norm.
It is compiled C that reads boxed doubles, so the figure is that of scalar code and not the peak of vector units (a tuned BLAS gives many
times as much), and it depends on how the interpreter was built: one host, one interpreter. It is a claim that feeds
calibration and orders machines; it is not a promise of what a job reaches.
"""

from __future__ import annotations

import math
import time
from typing import Final

_COORDINATES: Final = 2048
_OPERATIONS: Final = 3 * _COORDINATES
_ROUNDS: Final = 9
_SECONDS: Final = 1.0


def benchmark_gflops(*, seconds: float = _SECONDS) -> float:
    """Best of nine rounds that take about `seconds` together: the best, since other work on the machine only ever slows a round."""
    one = tuple(math.sin(number) for number in range(_COORDINATES))
    other = tuple(math.cos(number) for number in range(_COORDINATES))
    repeats = 16
    while (taken := _round(one, other, repeats)) < seconds / _ROUNDS / 2:
        repeats *= 2
    best = min([taken, *(_round(one, other, repeats) for _ in range(_ROUNDS))])
    return repeats * _OPERATIONS / best / 1e9


def _round(one: tuple[float, ...], other: tuple[float, ...], repeats: int) -> float:
    """The seconds of CPU that this thread needs for `repeats` norms."""
    begun = time.thread_time()
    for _ in range(repeats):
        math.dist(one, other)
    return max(time.thread_time() - begun, 1e-9)
