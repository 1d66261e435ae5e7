"""Archives: how fast outputs are packed and checked, against copying the same bytes, and in how little memory. In a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure
from workers.protocol.archives import ArchiveLimits, archive_check, archive_write

FILES: Final = 8
FILE_BYTES: Final = 32 * 2**20
_BLOCK_BYTES: Final = 2**20
_LIMITS: Final = ArchiveLimits(content_bytes=2 * FILES * FILE_BYTES)


def archive_figures(folder: Path) -> list[Figure]:
    """Measured in a child, so that its memory is that of archives and nothing else."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.archives", str(folder)], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    size_mb = FILES * FILE_BYTES / 1e6
    grown_mb = found["grown_bytes"] / 1e6
    return [
        Figure("write", size_mb / found["write"], "MB/s", note=f"{found['write'] / found['copy']:.2f} x copying and hashing"),
        Figure("read and check", size_mb / found["check"], "MB/s", note=f"{found['check'] / found['hash']:.2f} x hashing"),
        Figure("memory that it took", grown_mb, "MB", limit=16, note=f"for {size_mb:.0f} MB of outputs"),
    ]


def _measure(folder: Path) -> dict[str, float]:
    outputs = folder / "outputs"
    outputs.mkdir(parents=True)
    for number in range(FILES):
        with (outputs / f"{number}.bin").open("wb") as file:
            for _ in range(FILE_BYTES // _BLOCK_BYTES):
                file.write(os.urandom(_BLOCK_BYTES))
    copy = _seconds_of_copy(outputs, folder / "copy")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with (folder / "archive.tar").open("wb") as out:
        archive_write(outputs, out, limits=_LIMITS)
    written = time.monotonic()
    with (folder / "archive.tar").open("rb") as file:
        archive_check(file, limits=_LIMITS)
    checked = time.monotonic()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    began_hash = time.monotonic()
    with (folder / "archive.tar").open("rb") as file:
        hashlib.file_digest(file, "sha256")
    hashed = time.monotonic() - began_hash
    return {"write": written - began, "check": checked - written, "copy": copy, "hash": hashed, "grown_bytes": grown}


def _seconds_of_copy(outputs: Path, copy: Path) -> float:
    began = time.monotonic()
    with copy.open("wb") as out:
        for path in sorted(outputs.iterdir()):
            digest = hashlib.sha256()
            with path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    digest.update(block)
                    out.write(block)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_measure(Path(sys.argv[1]))))
