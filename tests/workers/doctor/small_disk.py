"""A check made on a disk of a size of the test's choosing, mounted for one process alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = "/mnt"


def checked_on_disk(size_bytes: int, program: str) -> str:
    """What `program` prints, run with an empty disk at FOLDER that nobody else sees. Needs the right to mount."""
    script = 'mount -t tmpfs -o "size=$1" none "$4" && exec "$2" -c "$3"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(size_bytes), sys.executable, program, FOLDER],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
