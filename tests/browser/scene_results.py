"""What the folding example leaves behind, made in code: a helix, a picture, a table, a document and an array."""

from __future__ import annotations

import io
import json
import math
import struct
import zlib
from typing import Final

import numpy as np

_RESIDUES: Final = "GYDPETGTWG" * 2
_NAMES: Final = {"G": "GLY", "Y": "TYR", "D": "ASP", "P": "PRO", "E": "GLU", "T": "THR", "W": "TRP"}
_HELIX: Final = {
    "N": (1.55, -27.7, -0.94),
    "CA": (2.28, 0.0, 0.0),
    "C": (1.68, 26.1, 1.10),
    "O": (2.00, 31.6, 2.27),
    "CB": (3.29, -9.0, 0.90),
}
"""Radius in angstrom, angle in degrees and height of each atom of an alpha helix's residue, from its C-alpha."""


def helix_pdb(residues: str = _RESIDUES) -> bytes:
    """An alpha helix: 100 degrees and 1.5 angstrom a residue; and a zinc ion and two waters, so that there is something else to see."""
    lines = ["REMARK   made in code"]
    serial = 0
    for number, letter in enumerate(residues, start=1):
        for name, (radius, degrees, height) in _HELIX.items():
            if name == "CB" and letter == "G":
                continue
            serial += 1
            angle = math.radians(100 * number + degrees)
            point = (radius * math.cos(angle), radius * math.sin(angle), 1.5 * number + height)
            lines.append(_record("ATOM", serial, f" {name:<3}", residue=_NAMES[letter], number=number, point=point))
    for name, residue, point in (
        ("ZN  ", "ZN", (6.0, 0.0, 12.0)),
        (" O  ", "HOH", (5.0, 5.0, 20.0)),
        (" O  ", "HOH", (-6.0, 2.0, 8.0)),
    ):
        serial += 1
        lines.append(_record("HETATM", serial, name, residue=residue, number=100 + serial, point=point))
    return "\n".join([*lines, "END", ""]).encode()


def _record(kind: str, serial: int, name: str, *, residue: str, number: int, point: tuple[float, float, float]) -> str:
    x, y, z = point
    return f"{kind:<6}{serial:5d} {name} {residue:>3} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00"


def png(width: int = 320, height: int = 200) -> bytes:
    """An interference pattern in grey."""
    rows = bytearray()
    for y in range(height):
        rows.append(0)
        rows += bytes(int(127 + 60 * math.sin(x / 9) + 60 * math.sin(math.hypot(x - 160, y - 100) / 7)) for x in range(width))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(rows), 9)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def npy() -> bytes:
    """Distances of 20 residues from each other, as the folding example's contact map."""
    out = io.BytesIO()
    places = np.arange(20)
    np.save(out, np.abs(places[:, None] - places[None, :]) * 1.5, allow_pickle=False)
    return out.getvalue()


def _energies() -> bytes:
    rows = [
        f"{step},{-1400 - 9 * math.sqrt(step) + 6 * math.sin(step * 1.7):.3f},{300 + 40 * math.exp(-step / 60) * math.cos(step / 4):.2f},"
        f"{5.2 + 4 * math.exp(-step / 90):.3f}"
        for step in range(600)
    ]
    return "\n".join(["step,energy_kj_mol,temperature_k,radius_of_gyration_angstrom", *rows, ""]).encode()


FOLDING_FILES: Final = {
    "final.pdb": helix_pdb(),
    "energies.csv": _energies(),
    "summary.json": json.dumps(
        {
            "sequence": _RESIDUES,
            "converged": True,
            "energy_kj_mol": {"first": -1398.21, "last": -1620.44, "least": -1621.07},
            "steps": 600,
            "stages": [{"name": "minimise", "kelvin": None}, {"name": "anneal", "kelvin": [600, 450, 300]}],
        }
    ).encode(),
    "maps/contacts.npy": npy(),
    "maps/contacts.png": png(),
    "notes.txt": b"minimised, annealed from 600 K to 300 K, minimised again\n",
    "report.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><circle r="9"/></svg>\n',
    "state.chk": bytes(range(256)) * 9,
}
