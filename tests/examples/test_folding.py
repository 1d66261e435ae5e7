"""The folding workload in the container that a host would give it, and whether two results agree by the job's own rule."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devstack.images import base_image_ensure, workload_image_ensure
from examples.folding.parameters import InputError, parameters_parse, sequence_parse
from jobs.comparison.report import Comparison
from jobs.comparison.results import results_compare
from jobs.descriptor import Descriptor, descriptor_parse
from workers.protocol.digests import digest_of
from workers.protocol.messages.receipt import Manifest, ManifestFile

FOLDER = Path(__file__).parents[2] / "examples" / "folding"
OTHER_PROCESSOR = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-FMA,-AVX2_Usable,-AVX2"}
Fold = Callable[..., Path]
JSON_VALUES = st.recursive(st.none() | st.floats() | st.text(), lambda each: st.lists(each) | st.dictionaries(st.text(), each))


def _parameters(**overrides: Any) -> dict[str, Any]:
    """The job's own, shortened to a second of dynamics."""
    parameters: dict[str, Any] = json.loads((FOLDER / "inputs" / "params.json").read_text())
    stages = [
        {"name": "heating", "from_kelvin": 300, "to_kelvin": 500, "steps": 400},
        {"name": "cooling", "from_kelvin": 500, "to_kelvin": 50, "steps": 600},
    ]
    return parameters | {"minimise_iterations": 50, "stages": stages} | overrides


@pytest.fixture(scope="module")
def descriptor() -> Descriptor:
    return descriptor_parse((FOLDER / "job.json").read_bytes())


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def fold(client: docker.DockerClient, descriptor: Descriptor, tmp_path_factory: pytest.TempPathFactory) -> Fold:
    """Runs the job's command on the given parameters as the sandbox would; gives the outputs, and the log beside them as `log`."""
    base = base_image_ensure(client, report=print)
    image_id = workload_image_ensure(client, context=FOLDER, tag=descriptor.docker_image, base=base, report=print)

    def run(parameters: dict[str, Any], environment: dict[str, str] | None = None) -> Path:
        folder = tmp_path_factory.mktemp("run")
        inputs, outputs = folder / "inputs", folder / "outputs"
        inputs.mkdir()
        outputs.mkdir()
        outputs.chmod(0o777)
        folder.chmod(0o755)
        shutil.copy(FOLDER / "inputs" / "chignolin.fasta", inputs)
        (inputs / "params.json").write_text(json.dumps(parameters))
        for file in inputs.iterdir():
            file.chmod(0o644)
        named = {"HOME": "/tmp", "NEXA_INPUTS": "/inputs", "NEXA_OUTPUTS": "/outputs"}  # noqa: S108  # in the container
        container = client.containers.create(
            image_id,
            list(descriptor.argv),
            environment=named | dict(descriptor.environment) | (environment or {}),
            user="65534:65534",
            network_mode="none",
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            pids_limit=descriptor.run_limits.pids,
            mem_limit=descriptor.run_limits.memory_bytes,
            memswap_limit=descriptor.run_limits.memory_bytes,
            nano_cpus=int(descriptor.run_limits.cpus * 1e9),
            tmpfs={"/tmp": "size=16m"},  # noqa: S108  # in the container
            volumes={str(inputs): {"bind": "/inputs", "mode": "ro"}, str(outputs): {"bind": "/outputs", "mode": "rw"}},
        )
        try:
            container.start()
            status = container.wait(timeout=120)["StatusCode"]
            log = container.logs().decode()
        finally:
            container.remove(force=True)
        (folder / "log").write_text(log)
        (folder / "status").write_text(str(status))
        return outputs

    return run


@pytest.fixture(scope="module")
def honest(fold: Fold) -> Path:
    return fold(_parameters())


def _compare(descriptor: Descriptor, one: Path, other: Path) -> Comparison:
    sides = (one, other)
    manifests = (_manifest(one), _manifest(other))
    return results_compare(descriptor=descriptor, manifests=manifests, read=lambda side, path: (sides[side] / path).read_bytes())


def _manifest(folder: Path) -> Manifest:
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    files = tuple(ManifestFile(path=name, digest=digest_of(data), size_bytes=len(data)) for name, data in contents.items())
    return Manifest(files=files)


@pytest.mark.docker
class TestRun:
    def test_all_outputs_are_written_and_make_sense(self, honest: Path, descriptor: Descriptor) -> None:
        assert (honest.parent / "status").read_text() == "0"
        assert {path.name for path in honest.iterdir()} == {each.path for each in descriptor.outputs}
        summary = json.loads((honest / "summary.json").read_text())
        assert (summary["sequence"], summary["atoms"], summary["steps"]) == ("GYDPETGTWG", 138, 1000)
        assert summary["energy_final_kj_mol"] < summary["energy_minimised_kj_mol"] < summary["energy_built_kj_mol"]
        assert 0.4 < summary["radius_of_gyration_final_nm"] < summary["radius_of_gyration_start_nm"] + 0.2
        with (honest / "energies.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [int(row["step"]) for row in rows] == list(range(100, 1001, 100))
        assert sum(line.startswith("ATOM") for line in (honest / "final.pdb").read_text().splitlines()) == 138

    def test_progress_lines_rise_to_one(self, honest: Path) -> None:
        lines = [json.loads(line) for line in (honest.parent / "log").read_text().splitlines()]
        fractions = [line["nexa_progress"] for line in lines]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert {"building", "minimising", "heating", "cooling", "measuring"} == {line["stage"] for line in lines}

    def test_unusable_input_ends_with_two_and_one_plain_line(self, fold: Fold) -> None:
        outputs = fold(_parameters(seed=0))
        assert (outputs.parent / "status").read_text() == "2"
        assert (outputs.parent / "log").read_text().startswith("fold: seed: expected an integer from 1")


@pytest.mark.docker
class TestAgreement:
    def test_second_run_gives_the_same_bytes(self, fold: Fold, honest: Path) -> None:
        assert _manifest(fold(_parameters())) == _manifest(honest)

    def test_processor_without_fma_and_avx2_agrees(self, fold: Fold, honest: Path, descriptor: Descriptor) -> None:
        other = fold(_parameters(), OTHER_PROCESSOR)
        assert _compare(descriptor, honest, other).agree

    def test_tunables_do_change_the_arithmetic(self, client: docker.DockerClient, fold: Fold, descriptor: Descriptor) -> None:
        program = "import math; print([math.exp(x / 700).hex() + math.sin(x / 700).hex() for x in range(20000)])"
        outputs = {
            client.containers.run(descriptor.docker_image, ["python3", "-c", program], environment=each, remove=True, network_mode="none")
            for each in ({}, OTHER_PROCESSOR)
        }
        assert len(outputs) == 2, "expected last bits to differ; without that the test above shows nothing"

    @pytest.mark.parametrize(
        "cheat",
        [{"seed": 2005}, {"stages": _parameters()["stages"][1:]}, {"minimise_iterations": 40}],
        ids=["other seed", "a stage left out", "less minimisation"],
    )
    def test_other_work_disagrees(self, fold: Fold, honest: Path, descriptor: Descriptor, cheat: dict[str, Any]) -> None:
        compared = _compare(descriptor, honest, fold(_parameters(**cheat)))
        assert not compared.agree

    def test_invented_structure_disagrees(self, honest: Path, descriptor: Descriptor, tmp_path: Path) -> None:
        forged = tmp_path / "forged"
        shutil.copytree(honest, forged)
        lines = (forged / "final.pdb").read_text().splitlines(keepends=True)
        (forged / "final.pdb").write_text("".join(lines[:10] + lines[11:]))
        assert not _compare(descriptor, honest, forged).agree


class TestDescriptor:
    def test_inputs_are_the_files_beside_it(self, descriptor: Descriptor) -> None:
        for each in descriptor.inputs:
            content = (FOLDER / "inputs" / each.path).read_bytes()
            assert (digest_of(content), len(content)) == (each.digest, each.size_bytes)

    @pytest.mark.parametrize(("fasta", "params"), [("chignolin", "params"), ("trp-cage", "params-trp-cage")])
    def test_shipped_inputs_parse(self, fasta: str, params: str) -> None:
        sequence = sequence_parse((FOLDER / "inputs" / f"{fasta}.fasta").read_text())
        parameters = parameters_parse((FOLDER / "inputs" / f"{params}.json").read_text(), residues=len(sequence))
        assert parameters.steps == 18_000


class TestInputs:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "starts with '>'"),
            ("GYDPETGTWG\n", "starts with '>'"),
            (">a\nGYD\n>b\nGYD\n", "one sequence"),
            (">a\nGYB\n", "found 'B'"),
            (">a\nGY\n", "3 to 60 residues, found 2"),
            (">a\n" + "G" * 61, "3 to 60 residues, found 61"),
        ],
    )
    def test_unusable_fasta_is_refused_with_its_reason(self, text: str, said: str) -> None:
        with pytest.raises(InputError, match=said):
            sequence_parse(text)

    @pytest.mark.parametrize(
        ("overrides", "said"),
        [
            ({"seed": True}, "seed: expected an integer"),
            ({"timestep_femtoseconds": float("nan")}, "timestep_femtoseconds: expected a number"),
            ({"friction_per_picosecond": "1"}, "friction_per_picosecond: expected a number"),
            ({"stages": []}, "stages: expected a list of 1 to 100"),
            ({"stages": [{"name": "a"}]}, "is missing"),
            ({"stages": [{"name": "", "from_kelvin": 1, "to_kelvin": 1, "steps": 100}]}, "1 to 64 characters"),
            ({"stages": [{"name": "a", "from_kelvin": 1, "to_kelvin": 1, "steps": 150}]}, "multiple of steps_per_sample"),
            ({"stages": [{"name": "a", "from_kelvin": 1, "to_kelvin": 1, "steps": 6_000_000}] * 2}, "at most 10000000 steps"),
            ({"watched_distances": [{"name": "a", "first": 1, "second": 1}]}, "expected an object, found int"),
            ({"turbo": 1}, "'turbo' is unknown"),
        ],
    )
    def test_unusable_parameters_are_refused_with_the_field(self, overrides: dict[str, Any], said: str) -> None:
        with pytest.raises(InputError, match=said):
            parameters_parse(json.dumps(_parameters() | overrides), residues=10)

    @given(st.text() | JSON_VALUES.map(json.dumps))
    def test_no_text_escapes_as_another_error(self, text: str) -> None:
        with pytest.raises(InputError):
            parameters_parse(text, residues=10)
        with pytest.raises(InputError):
            sequence_parse(text.replace(">", ""))
