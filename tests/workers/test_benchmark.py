"""The benchmark: floating point operations as descriptors count them, on one core, in a process of its own."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.benchmark import BenchmarkFailedError, benchmark_gflops

OWN_PRODUCTS = """
import time, numpy
one, other = numpy.random.default_rng(1).standard_normal((2, 700, 700))
one @ other
times = []
for _ in range(8):
    begun = time.perf_counter()
    one @ other
    times.append(time.perf_counter() - begun)
print(2 * 700**3 / min(times) / 1e9)
"""


TRIES = 5
"""Other work on the machine may slow one side of a comparison; it cannot do so each time if the figures mean the same."""


def test_benchmark_measured_twice_gives_about_the_same() -> None:
    pairs = ((benchmark_gflops(seconds=0.3), benchmark_gflops(seconds=0.3)) for _ in range(TRIES))
    assert any(0.1 < first < 1000 and second == pytest.approx(first, rel=0.5) for first, second in pairs)


def test_figure_is_that_of_matrix_products_on_one_thread() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def own_gflops() -> float:
        command = [sys.executable, "-c", OWN_PRODUCTS]
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout)

    assert any(benchmark_gflops(seconds=0.5) == pytest.approx(own_gflops(), rel=0.5) for _ in range(TRIES))


def test_benchmark_keeps_to_one_core_and_two_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "8")
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    benchmark_gflops()
    taken_seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < taken_seconds * 1.2
    assert taken_seconds < 8  # two on a machine that does nothing else


def test_numpy_stays_out_of_the_process_that_asks() -> None:
    code = "import sys; from workers.benchmark import benchmark_gflops; benchmark_gflops(seconds=0.01); sys.exit('numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_broken_numpy_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('no BLAS for this processor')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BenchmarkFailedError, match="no BLAS for this processor"):
        benchmark_gflops()


@pytest.mark.parametrize("printed", ["", "fast", "nan", "-1", "0"])
def test_process_that_gives_no_figure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\necho {printed}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with pytest.raises(BenchmarkFailedError):
        benchmark_gflops()
