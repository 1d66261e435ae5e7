"""The descriptor: the seed's example as it stands, what is derived from it, and a code for every way to get it wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.descriptor import Descriptor, DescriptorInvalidError, descriptor_digest, descriptor_document, descriptor_parse, descriptor_schema
from jobs.descriptor.errors import FAULTS_MAX
from jobs.descriptor.formats import FileFormat, format_of
from jobs.descriptor.model import DESCRIPTOR_BYTES_MAX
from workers.protocol.messages.machine import Tier
from workers.protocol.room import Need, millicores_needed

ROOT = Path(__file__).parents[3]
SEED = (Path(__file__).parents[1] / "data" / "seed_example.json").read_bytes()
DIGEST = "sha256:" + "0" * 64
GOOD: dict[str, Any] = {
    "schema_version": "1.0",
    "job_id": "label",
    "type": "test",
    "docker_image": "example/science:1.0",
    "estimated_flops": 1e12,
}


def faults_of(document: Any) -> list[tuple[str, str]]:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(DescriptorInvalidError) as caught:
        descriptor_parse(data)
    assert caught.value.code == "descriptor_invalid"
    assert json.loads(json.dumps(caught.value.document()))["errors"][0]["message"]
    return [(fault.path, fault.code) for fault in caught.value.faults]


def test_seed_example_validates_byte_for_byte() -> None:
    descriptor = descriptor_parse(SEED)
    assert descriptor.model_dump(mode="json", exclude_unset=True) == json.loads(SEED)
    assert (descriptor.tier_name, descriptor.gpus, descriptor.memory_bytes) == (Tier.GPU_TIER1, 1, 8 * 10**9)


def test_folding_example_validates() -> None:
    descriptor = descriptor_parse((ROOT / "examples" / "folding" / "job.json").read_bytes())
    assert descriptor.verification.quorum == 2
    assert descriptor.run_limits.output_bytes == 16 * 10**6


def test_schema_accepts_what_the_parser_accepts() -> None:
    schema = descriptor_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(SEED))
    validator.validate(GOOD)
    for bad in ({**GOOD, "extra": 1}, {**GOOD, "tier": 4}, {**GOOD, "outputs": [{"path": "../x"}]}, {**GOOD, "job_id": ""}):
        assert not validator.is_valid(bad)


URI = "https://x/"


def compared(*files: dict[str, Any]) -> dict[str, Any]:
    """The members of a descriptor whose files are compared so."""
    return {"outputs": [{"path": file["path"]} for file in files], "verification": {"method": "numeric", "files": list(files)}}


@pytest.mark.parametrize(
    ("changes", "path", "code"),
    [
        ({"verification": {"policy": "spot", "copies": 2}}, "/verification/copies", "spot_runs_once"),
        ({"verification": {"spot_share": 0.5}}, "/verification/spot_share", "spot_share_unused"),
        ({"unknown": 1}, "/unknown", "unknown_field"),
        ({"a/b~c": 1}, "/a~1b~0c", "unknown_field"),
        ({"requirements": {"gpus": 1}}, "/requirements/gpus", "unknown_field"),
        ({"job_id": None}, "/job_id", "wrong_type"),
        ({"job_id": 7}, "/job_id", "wrong_type"),
        ({"job_id": ""}, "/job_id", "too_short"),
        ({"job_id": "x" * 129}, "/job_id", "too_long"),
        ({"job_id": "a b"}, "/job_id", "malformed"),
        ({"job_id": "a\n"}, "/job_id", "malformed"),
        ({"type": "ä"}, "/type", "malformed"),
        ({"docker_image": ""}, "/docker_image", "too_short"),
        ({"docker_image": "x" * 256}, "/docker_image", "too_long"),
        ({"estimated_flops": "1e12"}, "/estimated_flops", "wrong_type"),
        ({"estimated_flops": True}, "/estimated_flops", "wrong_type"),
        ({"estimated_flops": 0}, "/estimated_flops", "out_of_range"),
        ({"estimated_flops": 1e23}, "/estimated_flops", "out_of_range"),
        ({"tier": -1}, "/tier", "out_of_range"),
        ({"tier": 4}, "/tier", "out_of_range"),
        ({"tier": "1"}, "/tier", "wrong_type"),
        ({"tier": 1.5}, "/tier", "wrong_type"),
        ({"tolerance": 1.1}, "/tolerance", "out_of_range"),
        ({"credit_rate": 0}, "/credit_rate", "out_of_range"),
        ({"credit_rate": 1001}, "/credit_rate", "out_of_range"),
        ({"input_files": "a"}, "/input_files", "wrong_type"),
        ({"input_files": ["../a"]}, "/input_files/0", "malformed"),
        ({"input_files": ["a"]}, "/input_files/0", "input_source_missing"),
        ({"input_files": ["a"] * 1001}, "/input_files", "too_long"),
        ({"input_uri": "https://x/"}, "/input_files", "input_files_missing"),
        ({"inputs": [{"path": "a"}]}, "/inputs/0/digest", "missing"),
        ({"inputs": [{"path": "a", "digest": "md5:0"}]}, "/inputs/0/digest", "malformed"),
        ({"inputs": [{"path": "a", "digest": DIGEST}, {"path": "A", "digest": DIGEST}]}, "/inputs/1/path", "path_duplicate"),
        ({"inputs": [{"path": "a", "digest": DIGEST}, {"path": "a/b", "digest": DIGEST}]}, "/inputs/1/path", "path_conflict"),
        ({"input_uri": URI, "input_files": ["a"], "inputs": [{"path": "a/b", "digest": DIGEST}]}, "/input_files/0", "path_conflict"),
        ({"input_uri": URI, "input_files": ["a/b"], "inputs": [{"path": "A", "digest": DIGEST}]}, "/input_files/0", "path_conflict"),
        ({"input_uri": URI, "input_files": ["A"], "inputs": [{"path": "a", "digest": DIGEST}]}, "/input_files/0", "path_conflict"),
        ({"outputs": [{"path": "/etc"}]}, "/outputs/0/path", "malformed"),
        ({"outputs": [{"path": "a"}, {"path": "a"}]}, "/outputs/1/path", "path_duplicate"),
        ({"outputs": [{"path": "a", "media_type": "text"}]}, "/outputs/0/media_type", "malformed"),
        ({"command": ["x" * 4097]}, "/command/0", "too_long"),
        ({"command": ["x" * 4096] * 17}, "/command", "too_large"),
        ({"arguments": ["x" * 4096] * 17}, "/arguments", "too_large"),
        ({"environment": {"1A": "x"}}, "/environment/1A", "malformed"),
        ({"environment": {"A": 1}}, "/environment/A", "wrong_type"),
        ({"environment": {"NEXA_X": "1"}}, "/environment/NEXA_X", "environment_reserved"),
        ({"environment": {f"A{n}": "x" * 8192 for n in range(9)}}, "/environment", "too_large"),
        ({"limits": {"wall_seconds": 0}}, "/limits/wall_seconds", "out_of_range"),
        ({"limits": {"pids": 40000}}, "/limits/pids", "out_of_range"),
        ({"limits": {"memory_mb": 2000}, "requirements": {"ram_gb": 1}}, "/limits/memory_mb", "limit_exceeds_requirement"),
        ({"limits": {"disk_mb": 2000}, "requirements": {"disk_gb": 1}}, "/limits/disk_mb", "limit_exceeds_requirement"),
        ({"limits": {"cpus": 2}, "requirements": {"cores": 1}}, "/limits/cpus", "limit_exceeds_requirement"),
        ({"limits": {"disk_mb": 10, "output_mb": 20}}, "/limits/output_mb", "limit_exceeds_disk"),
        ({"requirements": {"gpu": True}}, "/requirements/gpu", "gpu_tier_mismatch"),
        ({"requirements": {"gpu_count": 1}}, "/requirements/gpu_count", "gpu_tier_mismatch"),
        ({"requirements": {"vram_gb": 8}}, "/requirements/vram_gb", "gpu_tier_mismatch"),
        ({"tier": 1, "requirements": {"gpu": False}}, "/requirements/gpu", "gpu_tier_mismatch"),
        ({"tier": 1, "requirements": {"gpu_count": 0}}, "/requirements/gpu_count", "gpu_tier_mismatch"),
        ({"requirements": {"ram_gb": -1}}, "/requirements/ram_gb", "out_of_range"),
        ({"verification": {"method": "vote"}}, "/verification/method", "not_a_choice"),
        ({"verification": {"copies": 17}}, "/verification/copies", "out_of_range"),
        ({"verification": {"copies": 1, "quorum": 2}}, "/verification/quorum", "quorum_exceeds_copies"),
        ({"verification": {"files": [{"path": "a"}]}}, "/verification/files/0/path", "comparison_file_not_output"),
        (
            {"verification": {"files": [{"path": "a"}]}, "outputs": [{"path": "a", "required": False}]},
            "/verification/files/0/path",
            "comparison_file_not_output",
        ),
        (
            {"verification": {"files": [{"path": "a", "absolute": 1}]}, "outputs": [{"path": "a"}]},
            "/verification/files/0",
            "comparison_tolerance_unused",
        ),
        (
            {"verification": {"files": [{"path": "a", "format": "csv"}]}, "outputs": [{"path": "a"}]},
            "/verification/files/0",
            "comparison_tolerance_unused",
        ),
        (compared({"path": "a.csv", "format": "xml"}), "/verification/files/0/format", "not_a_choice"),
        (compared({"path": "a.csv", "nan": "ignore"}), "/verification/files/0/nan", "not_a_choice"),
        (compared({"path": "a"}), "/verification/files/0/format", "comparison_format_unknown"),
        (compared({"path": "a.bytes"}), "/verification/files/0/format", "comparison_format_unknown"),
        (compared({"path": "a.csv", "format": "bytes", "absolute": 1}), "/verification/files/0/absolute", "comparison_rule_unused"),
        (compared({"path": "a.pdb", "columns": {"x": {}}}), "/verification/files/0/columns", "comparison_rule_unused"),
        (compared({"path": "a.cif", "nan": "refuse"}), "/verification/files/0/nan", "comparison_rule_unused"),
        (compared({"path": "a.json", "header": True}), "/verification/files/0/header", "comparison_rule_unused"),
        (compared({"path": "a.npy", "order": "any", "key": ["x"]}), "/verification/files/0/order", "comparison_rule_unused"),
        (compared({"path": "a.csv", "key": ["x"]}), "/verification/files/0/key", "comparison_rule_unused"),
        (compared({"path": "a.csv", "superpose": False}), "/verification/files/0/superpose", "comparison_rule_unused"),
        (compared({"path": "a.csv", "order": "any"}), "/verification/files/0/key", "comparison_key_missing"),
        (compared({"path": "a.csv", "order": "any", "key": ["x"] * 17}), "/verification/files/0/key", "too_long"),
        (
            compared({"path": "a.csv", "order": "any", "key": ["a/b"], "columns": {"a/b": {}}}),
            "/verification/files/0/columns/a~1b",
            "comparison_key_tolerant",
        ),
        ({"priority": 11}, "/priority", "out_of_range"),
        ({"queue_deadline_seconds": 0}, "/queue_deadline_seconds", "out_of_range"),
        ({"visibility": "secret"}, "/visibility", "not_a_choice"),
        ({"title": "x" * 201}, "/title", "too_long"),
        ({"schema_version": "2.0"}, "/schema_version", "schema_version_unsupported"),
        ({"schema_version": 1.0}, "/schema_version", "schema_version_unsupported"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_descriptor_has_its_own_code(changes: dict[str, Any], path: str, code: str) -> None:
    assert faults_of({**GOOD, **changes}) == [(path, code)]


@pytest.mark.parametrize("field", sorted(GOOD))
def test_required_field_absent_is_missing(field: str) -> None:
    assert faults_of({name: value for name, value in GOOD.items() if name != field}) == [(f"/{field}", "missing")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "json_malformed"),
        (b"{", "json_malformed"),
        (b"\xff", "json_malformed"),
        (b'{"tier": NaN}', "json_malformed"),
        (b'{"tier": 1e999}', "json_malformed"),
        (b'{"tier": 1, "tier": 2}', "json_malformed"),
        (b'{"title": "\\u0000"}', "json_malformed"),
        (b'{"title": "\\ud800"}', "json_malformed"),
        (b"[" * 100 + b"]" * 100, "json_malformed"),
        (b"[]", "wrong_type"),
        (b"null", "wrong_type"),
        (b'"' + b"x" * DESCRIPTOR_BYTES_MAX + b'"', "json_too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bytes_that_are_no_object_have_their_code(data: bytes, code: str) -> None:
    assert faults_of(data) == [("", code)]


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": {1, 2}}, {"a": b""}, {"a": "\0"}], ids=["nan", "set", "bytes", "nul"])
def test_object_that_is_no_json_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(DescriptorInvalidError) as caught:
        descriptor_parse(value)
    assert caught.value.faults[0].code == "json_malformed"


def test_rules_that_fit_their_format_are_accepted_and_stored_as_they_were_meant() -> None:
    files: list[dict[str, Any]] = [
        {"path": "a.csv", "order": "any", "key": ["t", "kind"], "columns": {"x": {"absolute": 1.0}}, "nan": "refuse", "header": True},
        {"path": "a.TXT", "header": False, "columns": {"1": {}}},
        {"path": "b.json", "columns": {"x": {}}, "relative": 0.5},
        {"path": "b.npz", "columns": {"x": {}}},
        {"path": "b.ent", "superpose": False, "absolute": 0.1},
        {"path": "c.out", "format": "mmcif"},
        {"path": "d.bin", "format": "bytes"},
        {"path": "e.csv", "format": "text", "superpose": True, "order": "fixed", "key": []},
    ]
    descriptor = descriptor_parse({**GOOD, **compared(*files)})
    assert [file.read_as for file in descriptor.verification.files] == [
        *(
            FileFormat.CSV,
            FileFormat.TEXT,
            FileFormat.JSON,
            FileFormat.NPZ,
            FileFormat.PDB,
            FileFormat.MMCIF,
            FileFormat.BYTES,
            FileFormat.TEXT,
        )
    ]
    stored = json.loads(json.dumps(descriptor_document(descriptor)))
    assert descriptor_parse(stored).verification == Descriptor.model_validate(stored).verification == descriptor.verification
    jsonschema.Draft202012Validator(descriptor_schema()).validate(stored)


def test_rules_shown_in_the_protocol_are_accepted() -> None:
    text = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    verification = json.loads(text.partition("Each of `verification.files` has")[2].partition("```json\n")[2].partition("```")[0])
    outputs = [{"path": file["path"]} for file in verification["files"]]
    assert len(descriptor_parse({**GOOD, "outputs": outputs, "verification": verification}).verification.files) == 5


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.csv", FileFormat.CSV),
        ("b/a.TSV", FileFormat.TSV),
        ("a.b.xvg", FileFormat.TEXT),
        ("csv", None),
        ("a.csv/b", None),
        ("a.gz", None),
    ],
)
def test_formats_are_known_by_the_ending(path: str, kind: FileFormat | None) -> None:
    assert format_of(path) is kind


def test_many_faults_are_cut_and_counted() -> None:
    with pytest.raises(DescriptorInvalidError, match="There are 80 faults") as caught:
        descriptor_parse({**GOOD, **{f"x{n}": 1 for n in range(80)}})
    assert len(caught.value.extra["errors"]) == FAULTS_MAX


def test_value_of_the_environment_is_not_repeated() -> None:
    with pytest.raises(DescriptorInvalidError) as caught:
        descriptor_parse({**GOOD, "environment": {"1A": "hunter2", "B": 424242}})
    assert "hunter2" not in str(caught.value.document())
    assert "424242" not in str(caught.value.document())


def test_digest_ignores_order_and_spelling_and_nothing_else() -> None:
    one = descriptor_digest(descriptor_parse(GOOD))
    assert descriptor_digest(descriptor_parse(dict(reversed(GOOD.items())) | {"estimated_flops": 10**12})) == one
    assert descriptor_digest(descriptor_parse({**GOOD, "title": "x"})) != one


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tier": 1, "requirements": {"gpu": True, "ram_gb": 8}},
        {"requirements": {"ram_gb": 0.001, "disk_gb": 0.0001, "cores": 0}},
        {"requirements": {"ram_gb": 1.2345678, "cores": 3}, "limits": {"pids": 7}},
    ],
    ids=["defaults", "gpu", "tiny", "fractions"],
)
def test_stored_document_means_the_same_plan(changes: dict[str, Any]) -> None:
    descriptor = descriptor_parse({**GOOD, **changes})
    document = json.loads(json.dumps(descriptor_document(descriptor)))
    for again in (descriptor_parse(document), Descriptor.model_validate(document)):
        assert again.run_limits == descriptor.run_limits
        assert (again.gpus, again.gpu_memory_bytes, again.memory_bytes, again.disk_bytes, again.cpus) == (
            descriptor.gpus,
            descriptor.gpu_memory_bytes,
            descriptor.memory_bytes,
            descriptor.disk_bytes,
            descriptor.cpus,
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"requirements": {"cores": 4 / 3, "disk_gb": 2}},
        {"requirements": {"disk_gb": 2}, "limits": {"disk_mb": 1500, "output_mb": 700}},
        {"limits": {"cpus": 0.0001, "disk_mb": 10, "output_mb": 10}},
        {"tier": 1, "requirements": {"gpu_count": 3, "vram_gb": 7.9}},
    ],
    ids=["defaults", "thirds", "outputs_beyond_requirement", "tiny", "gpus"],
)
def test_a_node_has_free_what_its_host_will_set_aside(changes: dict[str, Any]) -> None:
    descriptor = descriptor_parse({**GOOD, **changes})
    aside = Need.of(descriptor.run_limits)
    assert descriptor.cpus >= millicores_needed(aside.cpus) / 1000
    assert descriptor.memory_bytes >= aside.memory_bytes
    assert descriptor.disk_bytes >= aside.disk_bytes
    assert (descriptor.gpus, descriptor.gpu_memory_bytes) == (aside.gpus, aside.gpu_memory_bytes)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = st.sampled_from(sorted(Descriptor.model_fields))


@settings(max_examples=150, deadline=None)
@given(changes=st.dictionaries(_FIELDS | st.text(max_size=8), _JSON, max_size=6))
def test_arbitrary_objects_raise_nothing_else(changes: dict[str, Any]) -> None:
    try:
        descriptor = descriptor_parse({**GOOD, **changes})
    except DescriptorInvalidError as error:
        json.dumps(error.document(), allow_nan=False).encode()
    else:
        assert descriptor_digest(descriptor_parse(descriptor_document(descriptor)))


@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(DescriptorInvalidError):
        descriptor_parse(data)
