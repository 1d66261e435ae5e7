"""An archive is written and read in memory that does not grow with it: 512 MiB here, some three seconds of two idle cores.

Measured once by hand with 10 GiB: the peak of the reader grew by 3 MiB, that of the writer by less.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONTENT_BYTES = 2**29
GROWTH_BYTES_MAX = 24 * 2**20

# VmHWM is this program's own peak; getrusage also remembers that of the process which started it.
_PEAK = """
import sys
from pathlib import Path
from workers.protocol.archives import archive_check, archive_write
def peak():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
before = peak()
"""
_WRITE = _PEAK + "info = archive_write(Path(sys.argv[1]), sys.stdout.buffer)\nprint(peak() - before, info.digest, file=sys.stderr)"
_READ = _PEAK + "info = archive_check(sys.stdin.buffer)\nprint(peak() - before, info.digest, file=sys.stderr)"


def test_memory_of_writer_and_reader_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", CONTENT_BYTES)  # a hole: nothing of it takes room, on either side of the pipe
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    with writer, subprocess.Popen([sys.executable, "-c", _READ], stdin=writer.stdout, stderr=subprocess.PIPE, env=environment) as reader:
        assert writer.stdout is not None
        assert writer.stderr is not None
        assert reader.stderr is not None
        writer.stdout.close()  # the reader's now: it must see the end
        written, read = writer.stderr.read().split(), reader.stderr.read().split()
    assert (writer.returncode, reader.returncode, written[1]) == (0, 0, read[1])
    assert max(int(written[0]), int(read[0])) < GROWTH_BYTES_MAX
