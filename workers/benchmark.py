"""The benchmark of a host: double precision GFLOP/s of one core, multiplying matrices (dgemm) with the BLAS that numpy brings.

A product of two n by n matrices takes 2n³ floating point operations, a multiplication and an addition each. That is how a descriptor's
`estimated_flops` count, so seconds of CPU times this figure is an amount of the same kind. dgemm reaches nearly the peak of a core; real
programs reach a part of it, and a job type's calibration learns which. The figure is a claim: it feeds calibration and orders
machines, and decides no pay by itself (docs/adr/0010-benchmark-by-dgemm.md).

The measurement is a process of its own: a BLAS takes its number of threads when it is loaded, and neither its threads nor its memory
should stay in a worker that runs for months. Run this file as a script and it is that process.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

_SIZE: Final = 512
_WARM_UP: Final = 2
_PRODUCTS_MIN: Final = 3
_SECONDS: Final = 1.0
_PROCESS_SECONDS: Final = 60.0
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""What the BLAS builds that numpy may carry read."""


class BenchmarkFailedError(RuntimeError):
    """The measuring process ended without a figure, or took far longer than it should."""


def benchmark_gflops(*, seconds: float = _SECONDS) -> float:
    """GFLOP/s of the fastest of all products that fit into `seconds`, three at least: other work on the machine only ever slows one.

    Takes `seconds` and the start of an interpreter, about 0.3 s. Raises BenchmarkFailedError.
    """
    # The environment stays otherwise as it is: OPENBLAS_CORETYPE, for one, may name the kernels that this processor can run.
    environment = os.environ | dict.fromkeys(_ONE_THREAD, "1")
    # -P: without it, modules beside this file would hide those of the standard library.
    command = [sys.executable, "-P", str(Path(__file__).resolve()), str(seconds)]
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds + _PROCESS_SECONDS,
            check=True,
        )
        gflops = float(done.stdout)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchmarkFailedError(f"The benchmark ended with exit code {error.returncode}: {last[:300]}. Is numpy installed?") from error
    except (subprocess.TimeoutExpired, OSError, ValueError) as error:
        raise BenchmarkFailedError(f"The benchmark gave no figure: {error}") from error
    if not (math.isfinite(gflops) and gflops > 0):
        raise BenchmarkFailedError(f"Expected GFLOP/s above 0 from the benchmark; found {gflops}.")
    return gflops


def dgemm_gflops(*, seconds: float) -> float:
    """The measurement itself, in this process, on as many threads as its BLAS was loaded with."""
    import numpy as np  # noqa: PLC0415  only the measuring process pays for it

    generator = np.random.default_rng(20)
    left, right = (generator.standard_normal((_SIZE, _SIZE)) for _ in range(2))
    product = np.empty_like(left)
    for _ in range(_WARM_UP):
        np.matmul(left, right, out=product)
    best = math.inf
    products = 0
    end = time.perf_counter() + seconds
    while products < _PRODUCTS_MIN or time.perf_counter() < end:
        begun = time.perf_counter()
        np.matmul(left, right, out=product)
        best = min(best, time.perf_counter() - begun)
        products += 1
    return 2 * _SIZE**3 / best / 1e9


if __name__ == "__main__":
    sys.stdout.write(f"{dgemm_gflops(seconds=float(sys.argv[1]))!r}\n")
