"""A small valid file of each format, to be compared, changed and fuzzed."""

from __future__ import annotations

import numpy as np

from jobs.descriptor.formats import FileFormat
from tests.jobs.comparison.sides import npy, npz

PDB = b"""REMARK   seed
MODEL        1
ATOM      1  N   GLY A   1      11.104   6.134  -6.504  1.00  0.00           N
ATOM      2  CA  GLY A   1      11.639   6.071  -5.147  1.00  0.00           C
ATOM      3  C  AGLY A   1      12.359   7.362  -4.789  1.00  0.00           C
HETATM    4  O   HOH A   2A     13.000   7.000  -4.000  1.00  0.00           O
ENDMDL
END
"""
MMCIF = b"""data_seed
_struct.title
;of many
lines
;
loop_
_atom_site.group_PDB
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.pdbx_PDB_model_num
ATOM N . GLY A 1 11.104 6.134 -6.504 1
ATOM "O5'" . GLY A 1 11.639 6.071 -5.147 1 # comment
ATOM 'C' . GLY A 1 1.2359e1 7.362 -4.789 2
"""

SEEDS: dict[FileFormat, list[bytes]] = {
    FileFormat.BYTES: [b"anything"],
    FileFormat.CSV: [b"t,x\n0,1.5\n1,-2e-3\n", b't,"x"\r\n"a, b",nan\r\n\r\n9007199254740993,inf\r\n'],
    FileFormat.TSV: [b"t\tx\n0\t1.5\n1\tnan\n"],
    FileFormat.TEXT: [b"# made\n@ legend\n0 1.5\n1 -2.0D-3\n&\n", b"t x\n0 1\n"],
    FileFormat.JSON: [b'{"t": [0, 1.5, null, true], "x": {"y": "z", "\\u00e9": -1e-3}}', b"[[], {}, 9007199254740991]"],
    FileFormat.NPY: [
        npy(np.arange(6.0).reshape(2, 3)),
        npy(np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))),
        npy(np.array([(1, (1, 2), (3,))], [("t", "<i4"), ("x", "<f8", (2,)), ("in", [("y", "<f4")])])),
        npy(np.array(["ab", "c"]), version=(3, 0)),
        npy(np.array(["2026-01-01", "NaT"], "M8[us]"), version=(2, 0)),
        npy([1 + 2j, complex("nan")]),
    ],
    FileFormat.NPZ: [npz(t=[1.0, 2.0], x=[[3]]), npz(compress=True, t=np.zeros(50), x=["a"])],
    FileFormat.PDB: [PDB],
    FileFormat.MMCIF: [MMCIF],
}
