"""What each way shows of a file, and where it stops."""

from __future__ import annotations

import math
import struct
import time

import numpy as np
import pytest

from jobs.comparison.reading import FileUnreadableError
from jobs.comparison.rules import FileRule
from jobs.descriptor.formats import FileFormat, format_of
from jobs.results import arrays, drawings, images, plots, structures, tables, texts, trees
from jobs.results.kinds import Way, media_type_of, ways_of
from tests.browser.scene_results import helix_pdb, png
from tests.jobs.comparison.seeds import MMCIF
from tests.jobs.comparison.sides import npy, npz

CSV = FileRule("a.csv", FileFormat.CSV)


def atoms(count: int, *, name: str = " C  ", step: float = 1.5) -> bytes:
    return b"".join(
        f"ATOM  {place % 99999:5d} {name} GLY A{place % 9999:4d}    {step * place % 9000:8.3f}{0.0:8.3f}{0.0:8.3f}\n".encode()
        for place in range(count)
    )


# --- which ways there are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "head", "first"),
    [
        ("a.csv", b"t,x\n", Way.TABLE),
        ("notes.txt", b"1 2\n", Way.TEXT),
        ("rmsd.xvg", b"@ x\n1 2\n", Way.TABLE),
        ("a.json", b"{}", Way.TREE),
        ("a.pdb", b"ATOM", Way.STRUCTURE),
        ("a.npy", b"\x93NUMPY", Way.ARRAYS),
        ("a.svg", b"<svg>", Way.TEXT),
        ("a.html", b"<script>", Way.TEXT),
        ("anything", png(2, 2), Way.IMAGE),
        ("a.png", b"<svg>", Way.TEXT),
        ("a.csv", b"\x00\x01", Way.HEX),
        ("a.bin", b"\xff\xfe", Way.HEX),
    ],
)
def test_best_way_goes_by_format_and_first_bytes(path: str, head: bytes, first: Way) -> None:
    found = ways_of(path, format_of(path), head)
    assert found[0] is first
    assert found[-1] is Way.HEX


def test_media_type_is_what_the_ending_claims() -> None:
    assert media_type_of("deep/A.PDB") == "chemical/x-pdb"
    assert media_type_of("csv") == media_type_of("a.unknown") == "application/octet-stream"


# --- text ----------------------------------------------------------------------------------------------------------------


def test_text_is_cut_and_hides_nothing() -> None:
    head = texts.text_head(b"a\x1b[31m\xe2\x80\xae\xff\r\n" + b"x" * texts.TEXT_BYTES)
    assert head.text.startswith("a\\u001b[31m\\u202e\ufffd\n")
    assert head.shown_bytes == texts.TEXT_BYTES
    assert texts.is_text("é".encode()[:1])  # cut within a character


def test_hex_has_offset_bytes_and_ascii() -> None:
    assert texts.hex_head(b"AB\x00" + bytes(14)).text.splitlines()[0].startswith("00000000  41 42 00 00")
    assert texts.hex_head(bytes(9999)).shown_bytes == texts.HEX_BYTES


# --- tables and plots ----------------------------------------------------------------------------------------------------


def test_table_shows_rows_up_to_the_limit_and_says_that_more_follow() -> None:
    data = b"t,x\n" + b"".join(b"%d,%d\n" % (row, row * row) for row in range(tables.ROWS_READ + 5))
    head = tables.table_head(CSV, data, is_whole=True)
    assert (head.names, len(head.rows), len(head.shown), head.is_cut) == (["t", "x"], tables.ROWS_READ, tables.ROWS_SHOWN, True)


def test_cut_table_loses_its_last_line_and_nothing_else() -> None:
    head = tables.table_head(CSV, b"t,x\n1,2\n3,", is_whole=False)
    assert (head.rows, head.is_cut) == ([["1", "2"]], True)
    quoted = tables.table_head(CSV, b't,x\n1,2\n"a\nb', is_whole=False)  # the cut is within a quoted cell
    assert quoted.rows == [["1", "2"]]
    with pytest.raises(FileUnreadableError):
        tables.table_head(CSV, b't,x\n1,2\n"a\nb', is_whole=True)


def test_columns_of_numbers_are_those_with_mostly_numbers() -> None:
    head = tables.table_head(CSV, b"name,t,u\na,1.5D3,\nb,nan,2\nc,-3,\n", is_whole=True)
    assert head.numeric() == [1]
    assert head.column(1)[0] == 1500
    assert math.isnan(head.column(1)[1])


def test_columns_beyond_the_limit_are_counted() -> None:
    head = tables.table_head(CSV, b",".join(b"%d" % place for place in range(99)) + b"\n", is_whole=True)
    assert (len(head.names), head.columns_left_out) == (tables.COLUMNS_SHOWN, 99 - tables.COLUMNS_SHOWN)


def test_line_breaks_at_what_is_no_number() -> None:
    panel = plots.panel_of("y", [0.0, 1, 2, 3], [1.0, math.nan, math.inf, 4])
    assert panel.path.count("M") == 2
    assert panel.points == 2


def test_many_points_are_thinned_but_no_spike_is_lost() -> None:
    ys = [0.0] * 20_000
    ys[12_345] = 7.0
    panel = plots.panel_of("y", [float(place) for place in range(len(ys))], ys)
    assert panel.path.count("L") < 4 * plots.WIDTH
    assert min(float(part.split()[1]) for part in panel.path[1:].split("L")) < 20
    assert panel.greatest == "7"


def test_points_that_go_back_are_dots_instead_of_a_line() -> None:
    panel = plots.panel_of("y", [2.0, 1.0], [0.0, 1.0])
    assert (panel.path, panel.dots.count("M")) == ("", 2)


@pytest.mark.parametrize("values", [[5.0, 5.0], [0.0, 0.0], [1e300, -1e300], [5e-324, 0.0], [math.nan], [1e308]])
def test_axis_is_drawn_for_any_numbers(values: list[float]) -> None:
    panel = plots.panel_of("y", values, values)
    assert all(math.isfinite(tick.place) for tick in (*panel.x_ticks, *panel.y_ticks))
    assert len(panel.y_ticks) <= 8


# --- trees ---------------------------------------------------------------------------------------------------------------


def test_tree_opens_and_closes_in_pairs_and_counts_what_is_left_out() -> None:
    steps = trees.tree_steps("a", b'{"list": [' + b",".join([b'{"x":[1]}'] * 5000) + b"]}")
    assert len(steps) < 4 * trees.NODES_MAX
    depth = 0
    for step in steps:
        depth += {"open": 1, "close": -1}.get(step.what, 0)
        assert depth >= 0
    assert depth == 0
    assert any(step.text == "4800 more, not shown here" for step in steps)


def test_tree_is_as_deep_as_it_may_be() -> None:
    steps = trees.tree_steps("a", b"[" * 40 + b"]" * 40)
    assert sum(step.what == "open" for step in steps) == trees.DEPTH_MAX + 1


def test_document_beyond_the_limit_or_of_another_kind_is_refused() -> None:
    with pytest.raises(FileUnreadableError, match="See it as text"):
        trees.tree_steps("a", b" " * (trees.TREE_BYTES + 1))
    with pytest.raises(FileUnreadableError, match="expected JSON"):
        trees.tree_steps("a", b"{'a': 1}")


# --- structures ----------------------------------------------------------------------------------------------------------


def test_helix_has_its_bonds_trace_and_colours() -> None:
    shown = structures.structure_read("a.pdb", FileFormat.PDB, helix_pdb("AAAAAA".replace("A", "Y")))
    assert (shown.atoms, shown.residues, len(shown.traces), len(shown.traces[0])) == (33, 9, 1, 6)
    assert len(shown.bonds) == 6 * 4 + 5
    assert set(shown.colours) == {"n", "c", "o", "m"}
    assert np.allclose(shown.points.mean(axis=0), 0)
    extents = np.ptp(shown.points, axis=0)
    assert extents[0] > extents[2]


def test_turning_never_mirrors() -> None:
    corners = b"".join(
        f"HETATM    1  C{place}  LIG A   1    {x:8.3f}{y:8.3f}{z:8.3f}\n".encode()
        for place, (x, y, z) in enumerate([(0, 0, 0), (9, 0, 0), (0, 5, 0), (0, 0, 2)])
    )
    shown = structures.structure_read("a.pdb", FileFormat.PDB, corners)
    edges = shown.points[1:] - shown.points[0]
    assert np.linalg.det(edges) == pytest.approx(90)


def test_mmcif_has_models_to_choose_from() -> None:
    first = structures.structure_read("a.cif", FileFormat.MMCIF, MMCIF)
    second = structures.structure_read("a.cif", FileFormat.MMCIF, MMCIF, model="2")
    assert (first.models, first.model, first.atoms, second.model, second.atoms) == (["1", "2"], "1", 2, "2", 1)
    assert structures.structure_read("a.cif", FileFormat.MMCIF, MMCIF, model="none").model == "1"


def test_of_alternate_locations_the_first_is_taken() -> None:
    lines = b"".join(
        f"ATOM      1  CA {alternate}GLY A   1    {0.0:8.3f}{y:8.3f}{0.0:8.3f}\n".encode() for alternate, y in (("A", 0.0), ("B", 0.9))
    )
    assert len(structures.structure_read("a.pdb", FileFormat.PDB, lines).colours) == 1


def test_atoms_beyond_the_limit_are_counted() -> None:
    shown = structures.structure_read("a.pdb", FileFormat.PDB, atoms(structures.ATOMS_MAX + 10))
    assert (len(shown.colours), shown.atoms) == (structures.ATOMS_MAX, structures.ATOMS_MAX + 10)
    drawing = drawings.drawing_of(shown, is_backbone=False)
    assert (len(drawing.circles), drawing.left_out) == (drawings.DRAWN_MAX, structures.ATOMS_MAX - drawings.DRAWN_MAX)


def test_atoms_that_all_stand_in_one_place_cost_no_more_than_others() -> None:
    began = time.process_time()
    shown = structures.structure_read("a.pdb", FileFormat.PDB, atoms(structures.ATOMS_MAX, step=0.00001))
    assert time.process_time() - began < 10
    assert len(shown.bonds) < 8 * structures.ATOMS_MAX


def test_structure_beyond_the_limit_is_refused() -> None:
    with pytest.raises(FileUnreadableError, match="Download it"):
        structures.structure_read("a.pdb", FileFormat.PDB, bytes(structures.STRUCTURE_BYTES + 1))


# --- arrays --------------------------------------------------------------------------------------------------------------


def test_statistics_are_those_of_the_finite_values_over_many_pieces() -> None:
    values = np.arange(600_000, dtype=np.float32)
    values[7] = np.nan
    [shown] = arrays.arrays_read("a.npy", FileFormat.NPY, npy(values))
    finite = values[np.isfinite(values)].astype(np.float64)
    found = shown.statistics
    assert found is not None
    assert found.mean is not None
    assert found.deviation is not None
    assert (found.least, found.greatest, found.not_finite) == (0, 599_999, 1)
    assert found.mean == pytest.approx(finite.mean())
    assert found.deviation == pytest.approx(finite.std())


def test_records_are_shown_by_field_and_texts_without_statistics() -> None:
    shown = arrays.arrays_read("a.npy", FileFormat.NPY, npy(np.array([(1, "a")], [("t", "<i4"), ("name", "<U3")])))
    assert [(each.name, each.statistics is None, each.values) for each in shown] == [("t", False, ["1"]), ("name", True, ["a"])]


def test_npz_is_shown_member_by_member_and_bounded_unpacked() -> None:
    assert [each.name for each in arrays.arrays_read("a.npz", FileFormat.NPZ, npz(b=[1], a=[2.0]))] == ["a", "b"]
    bomb = npz(compress=True, a=np.zeros(arrays.UNPACKED_BYTES // 16), b=np.zeros(arrays.UNPACKED_BYTES // 16 + 1))
    assert len(bomb) < arrays.ARRAY_BYTES
    with pytest.raises(FileUnreadableError, match="unpacked"):
        arrays.arrays_read("a.npz", FileFormat.NPZ, bomb)


def test_pickled_objects_are_refused() -> None:
    with pytest.raises(FileUnreadableError):
        arrays.arrays_read("a.npy", FileFormat.NPY, npy(np.array([{"a": 1}], dtype=object)))


# --- images --------------------------------------------------------------------------------------------------------------


def test_images_are_known_by_their_headers() -> None:
    assert images.image_read("a", png(32, 20)) == images.ImageHeader("image/png", 32, 20)
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc2\x00\x11\x08" + struct.pack(">HH", 7, 9) + bytes(9)
    assert images.image_read("a", jpeg) == images.ImageHeader("image/jpeg", 9, 7)


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        png(2, 2).replace(struct.pack(">II", 2, 2), struct.pack(">II", 60_000, 60_000)),
        png(2, 2).replace(struct.pack(">II", 2, 2), struct.pack(">II", 0, 2)),
        b"\xff\xd8\xff\xda\x00\x02" + bytes(20),
        b"\xff\xd8\xff" + b"\xff" * 50,
    ],
)
def test_what_is_no_image_or_a_bomb_is_refused(data: bytes) -> None:
    with pytest.raises(images.ImageUnshowableError, match="Download it"):
        images.image_read("a", data)
