"""Comparison of whole results by a descriptor: which file is read how, and what is not read at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from jobs.comparison import FileUnreadableError, results_compare, rules_of
from jobs.comparison.report import Comparison
from jobs.descriptor import Descriptor, descriptor_parse
from jobs.descriptor.formats import FileFormat
from tests.jobs.comparison.seeds import MMCIF, PDB
from tests.jobs.comparison.sides import npy, npz
from workers.protocol.digests import digest_of
from workers.protocol.messages.receipt import Manifest, ManifestFile

CSV = b"t,x\n0,1.0\n"


def descriptor_of(*files: dict[str, Any], method: str = "numeric", tolerance: float = 0.01) -> Descriptor:
    document = {
        "schema_version": "1.0",
        "job_id": "label",
        "type": "test",
        "docker_image": "example/science:1.0",
        "estimated_flops": 1e12,
        "tolerance": tolerance,
        "outputs": [{"path": file["path"]} for file in files],
        "verification": {"method": method, "files": list(files)},
    }
    return descriptor_parse(document)


def manifest_of(files: Mapping[str, bytes]) -> Manifest:
    ordered = sorted(files.items(), key=lambda item: item[0].encode())
    return Manifest(files=tuple(ManifestFile(path=path, digest=digest_of(data), size_bytes=len(data)) for path, data in ordered))


def compared(descriptor: Descriptor, one: Mapping[str, bytes], other: Mapping[str, bytes]) -> tuple[Comparison, set[str]]:
    """What is found, the same in both orders, and which files were read for it."""
    read: set[str] = set()

    def ordered(*sides: Mapping[str, bytes]) -> Comparison:
        def reader(side: int, path: str) -> bytes:
            read.add(path)
            return sides[side][path]

        return results_compare(descriptor=descriptor, manifests=(manifest_of(sides[0]), manifest_of(sides[1])), read=reader)

    forth, back = ordered(one, other), ordered(other, one)
    assert (forth.agree, forth.compared, forth.exceeding) == (back.agree, back.compared, back.exceeding)
    return forth, read


def test_without_rules_every_file_is_read_by_its_ending_and_others_are_compared_exactly() -> None:
    files = {
        "a.csv": CSV,
        "b.txt": b"1 2\n",
        "c.npy": npy([1.0]),
        "d.npz": npz(x=[1.0]),
        "e.pdb": PDB,
        "f.cif": MMCIF,
        "g.json": b"[1]",
        "h.bin": b"\x00",
    }
    near = {
        **files,
        "a.csv": b"t,x\n0,1.005\n",
        "b.txt": b"# note\n1 2.01\n",
        "c.npy": npy([1.005]),
        "d.npz": npz(x=[0.995]),
        "e.pdb": PDB.replace(b"seed", b"made"),
        "f.cif": MMCIF.replace(b"seed", b"made"),
        "g.json": b"[1.005]",
    }
    found, read = compared(descriptor_of(), files, near)
    assert (found.agree, found.identical, len(found.files)) == (True, 1, 7)
    assert read == set(files) - {"h.bin"}
    found, _ = compared(descriptor_of(), files, {**near, "h.bin": b"\x01"})
    assert found.worst is not None
    assert (found.agree, found.worst.file, found.worst.place) == (False, "h.bin", "bytes")


def test_rules_reach_the_comparators() -> None:
    rules: list[dict[str, Any]] = [
        {
            "path": "a.out",
            "format": "csv",
            "absolute": 0.0,
            "relative": 0.0,
            "columns": {"x": {"absolute": 2.0}},
            "order": "any",
            "key": ["t"],
        },
        {"path": "b.csv", "format": "bytes"},
        {"path": "c.npy", "absolute": 1.0, "nan": "refuse"},
        {"path": "d.pdb", "superpose": False, "absolute": 0.5},
        {"path": "e.csv", "header": False},
    ]
    descriptor = descriptor_of(*rules)
    one = {"a.out": b"t,x\n0,1\n1,2\n", "b.csv": CSV, "c.npy": npy([1.0]), "d.pdb": PDB, "e.csv": b"100\n"}
    other = {**one, "a.out": b"t,x\n1,3\n0,0\n", "c.npy": npy([1.9]), "d.pdb": PDB.replace(b"  11.104", b"  11.404"), "e.csv": b"100.5\n"}
    assert rules_of(descriptor, (manifest_of(one), manifest_of(other)))[1] == ["b.csv"]
    assert compared(descriptor, one, other)[0].agree
    for path, data in {
        "a.out": b"t,x\n1,3\n0,4\n",
        "b.csv": CSV.replace(b"1.0", b"1.00"),
        "c.npy": npy([np.nan]),
        "d.pdb": PDB.replace(b"  11.104", b"  12.104"),
        "e.csv": b"102\n",
    }.items():
        found, _ = compared(descriptor, one, {**other, path: data})
        assert found.worst is not None
        assert (found.agree, found.worst.file) == (False, path)


def test_files_with_the_same_bytes_are_read_only_where_nan_is_refused() -> None:
    both = {"a.csv": CSV, "b.csv": b"x\nnan\n"}
    plain = descriptor_of({"path": "a.csv"}, {"path": "b.csv"})
    assert compared(plain, both, both) == (Comparison(identical=2), set())
    refusing = descriptor_of({"path": "a.csv", "nan": "refuse"}, {"path": "b.csv", "nan": "refuse"})
    found, read = compared(refusing, both, both)
    assert (found.agree, found.exceeding, read) == (False, 1, {"a.csv", "b.csv"})


def test_exact_method_reads_nothing() -> None:
    found, read = compared(descriptor_of(method="exact"), {"a.csv": CSV, "b": b"1"}, {"a.csv": CSV + b"\n", "b": b"1"})
    assert (found.agree, found.identical, read) == (False, 1, set())
    assert found.files[0].file_format is FileFormat.BYTES


def test_file_of_a_descriptor_that_was_never_checked_and_has_no_format_is_unreadable() -> None:
    stored = descriptor_of({"path": "a.csv"}).model_dump(mode="json")
    stored["verification"]["files"][0]["path"] = "a.xyz"
    with pytest.raises(FileUnreadableError, match="no format"):
        compared(Descriptor.model_validate(stored), {"a.xyz": b"1"}, {"a.xyz": b"2"})
