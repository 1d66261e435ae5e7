"""Whatever a file or an archive holds, looking at it raises nothing but VerificationError, and the page is made of bounded pieces."""

from __future__ import annotations

import io
import json
import random
from types import SimpleNamespace
from uuid import UUID

from django.http import QueryDict
from django.template.loader import render_to_string
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.comparison.rules import FileRule
from jobs.descriptor.formats import STRUCTURES, FileFormat
from jobs.results.archive_index import ArchiveIndex
from jobs.results.kinds import HEAD_BYTES, Way, ways_of
from jobs.results.looks import image_of, look_at, structure_of
from tests.browser.scene_results import helix_pdb, png
from tests.factories.receipts import archive_make
from tests.fuzz.mutation import mutated
from tests.jobs.comparison.seeds import SEEDS
from tests.jobs.results.opened import only
from workers.protocol.errors import VerificationError

MORE = [
    (None, png(9, 9)),
    (None, b"\xff\xd8\xff\xe0\x00\x10" + bytes(14) + b"\xff\xc0\x00\x11\x08\x00\x10\x00\x10\x03"),
    (FileFormat.PDB, helix_pdb("GYD")),
]
SEEDS_OF_FORMATS = [*((kind, seed) for kind, seeds in SEEDS.items() for seed in seeds), *MORE]
ARCHIVE = archive_make({"a.csv": b"t,x\n1,2\n", "b/c.json": b"{}", "b/ü.txt": b"y" * 700})[0]
ASKED = ("", "x=0&y=1&y=0", "x=9&y=ab", "draw=backbone&model=2", "model=%00")


@st.composite
def files(draw: st.DrawFn) -> tuple[FileFormat | None, bytes]:
    """Arbitrary bytes, or a valid file and what a few changes make of it."""
    kind, seed = draw(st.sampled_from(SEEDS_OF_FORMATS))
    source = random.Random(draw(st.integers(0, 2**64)))
    return kind, draw(st.binary(max_size=60)) if draw(st.integers(0, 9)) == 0 else mutated(seed, source, draw(st.integers(0, 4)))


@settings(max_examples=250, deadline=None)
@given(file=files(), asked=st.sampled_from(ASKED))
def test_any_bytes_are_shown_in_any_way_or_refused(file: tuple[FileFormat | None, bytes], asked: str) -> None:
    kind, data = file
    index, found = only(data)
    rule = FileRule("a", kind)
    query = QueryDict(asked)
    ways = {*ways_of("a", kind, data[:HEAD_BYTES]), Way.IMAGE}
    if kind in STRUCTURES:
        ways.add(Way.STRUCTURE)
    for way in ways:
        try:
            look = look_at(index, found, rule, way, query)
        except VerificationError:
            if way in {Way.TEXT, Way.HEX}:
                raise
            continue
        job = SimpleNamespace(pk=UUID(int=0))
        row = SimpleNamespace(name="a")
        render_to_string(f"jobs/results/_{look.way}.html", {"job": job, "file": found, "row": row, **look.context})


@settings(max_examples=150, deadline=None)
@given(file=files())
def test_any_bytes_give_atoms_as_json_without_nan_or_are_refused(file: tuple[FileFormat | None, bytes]) -> None:
    kind, data = file
    index, found = only(data)
    for kind_ in (kind or FileFormat.PDB, FileFormat.PDB, FileFormat.MMCIF):
        try:
            document = structure_of(index, found, FileRule("a", kind_), QueryDict("")).document()
        except VerificationError:
            continue
        json.dumps(document, allow_nan=False)
        atoms = len(document["colours"])
        assert len(document["coordinates"]) == 3 * atoms
        assert all(0 <= place < atoms for place in document["bonds"])
        assert all(0 <= place < atoms for trace in document["traces"] for place in trace)


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_an_image_that_may_be_served_or_refused(data: bytes) -> None:
    for head in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"):
        index, found = only(head + data)
        try:
            header, served = image_of(index, found)
        except VerificationError:
            continue
        assert served == head + data
        assert header.media_type in {"image/png", "image/jpeg"}


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**64), changes=st.integers(1, 4), cut=st.none() | st.integers(0, len(ARCHIVE)))
def test_any_changed_archive_is_read_or_refused(seed: int, changes: int, cut: int | None) -> None:
    data = mutated(ARCHIVE, random.Random(seed), changes)[:cut]
    try:
        index = ArchiveIndex(io.BytesIO(data))
        for file in index.files:
            index.read(file, limit_bytes=10**6)
    except VerificationError:
        pass
    else:
        assert [(file.path, file.digest) for file in index.files] == [
            (file.path, file.digest) for file in ArchiveIndex(io.BytesIO(ARCHIVE)).files
        ]
