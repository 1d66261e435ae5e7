"""What a child needs is loaded before it is confined: it may not be able to read a file of Python's own afterwards.

Modules import others, and codecs, only when something is read; so something of each kind is read.
"""

from __future__ import annotations

import contextlib
import io
from functools import partial
from typing import Final

import numpy as np

from jobs.checking.documents import NO_BLOB, BlobDocument, JobDocument, ReplicaDocument
from jobs.checking.pairs import JobCheck
from jobs.comparison import FileUnreadableError, results_compare
from jobs.descriptor import Descriptor
from workers.protocol.digests import digest_of
from workers.protocol.messages.receipt import Manifest, ManifestFile

_JOB: Final = {
    "schema_version": "1.0",
    "job_id": "warm-up",
    "type": "warm-up",
    "docker_image": "none:1",
    "estimated_flops": 1.0,
    "tolerance": 0.1,
    "verification": {"method": "numeric", "copies": 2, "quorum": 2},
}
_ATOM: Final = "ATOM  %5d  CA  ALA A%4d    %8.3f%8.3f%8.3f  1.00  0.00           C\n"
_LOOP: Final = (
    "data_x\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n_atom_site.Cartn_y\n_atom_site.Cartn_z\n%d 1 2 3\n2 3 1 2\n3 5 5 1\n4 0 1 9\n"
)


def warm_up() -> None:
    """Reads a little of everything, well-formed and malformed, and forgets it."""
    descriptor = Descriptor.model_validate(_JOB)
    for ending, sides in samples().items():
        for one, other in (sides, (b"", sides[1]), (sides[0], b"\xff\0[{\x93"), (sides[0][:-3], sides[1])):
            path = f"a.{ending}"
            both = (one, other)
            manifests = [Manifest(files=(ManifestFile(path=path, digest=digest_of(data), size_bytes=len(data)),)) for data in both]
            with contextlib.suppress(FileUnreadableError):
                results_compare(descriptor=descriptor, manifests=(manifests[0], manifests[1]), read=partial(_side, both))
    blob = BlobDocument(digest_of(b""), 0, data=b"")
    replica = ReplicaDocument("0", "0", "", bytes([2] * 32), b"{}", blob, NO_BLOB)
    for _ in JobCheck(JobDocument(b"{}", [replica])).outcomes((0,)):
        pass


def _side(both: tuple[bytes, bytes], side: int, _: str) -> bytes:
    return both[side]


def samples() -> dict[str, tuple[bytes, bytes]]:
    """By the ending of a name, two files of that format that are close to each other."""
    arrays, bundles = [], []
    for shift in (0.0, 0.01):
        arrays.append(io.BytesIO())
        np.save(arrays[-1], np.linspace(0.0, 1.0 + shift, 5))
        bundles.append(io.BytesIO())
        np.savez_compressed(bundles[-1], a=np.linspace(0.0, 1.0 + shift, 5))
    atoms = ["".join(_ATOM % (n, n, n * n, n + shift, 3 - n) for n in range(1, 6)).encode() for shift in (0.0, 0.01)]
    return {
        "csv": (b"x,y\n1,\xc3\xa9\n", b"x,y\n1.01,\xc3\xa9\n"),
        "tsv": (b"x\ty\n1\t2\n", b"x\ty\n1.01\t2\n"),
        "json": (b'{"x":[1,2.5,"\\u00e9"]}', b'{"x":[1,2.51,"\\u00e9"]}'),
        "txt": (b"energy 1.0\n", b"energy 1.01\n"),
        "dat": (b"1.0 2.0\n", b"1.01 2.0\n"),
        "npy": (arrays[0].getvalue(), arrays[1].getvalue()),
        "npz": (bundles[0].getvalue(), bundles[1].getvalue()),
        "pdb": (atoms[0], atoms[1]),
        "cif": ((_LOOP % 1).encode(), (_LOOP % 9).encode()),
    }
