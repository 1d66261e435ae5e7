"""Images of the demo and the tests: reused, built, refused, and nothing left behind. Against the real engine."""

from __future__ import annotations

import io
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import ImageNotFound

from devstack.images import (
    ImageUnavailableError,
    base_image_ensure,
    buildkit_cli,
    ca_bundle,
    context_digest,
    pip_configuration,
    tiny_image_ensure,
    workload_image_ensure,
)

ABSENT = "nexapod/absent:never"


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def tag(client: docker.DockerClient) -> Iterator[str]:
    """A tag of this test's own; the image goes when the test ends."""
    name = f"nexapod/test-{uuid.uuid4().hex[:12]}:1"
    yield name
    if client.images.list(name=name):
        client.images.remove(name, force=True)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text(
        "ARG BASE=none\nFROM ${BASE}\nCOPY program.py /program.py\n"
        "RUN --mount=type=secret,id=pip,target=/run/secrets/pip.conf "
        "touch /built\n"
    )
    (folder / "program.py").write_text("print('hello')\n")
    (folder / ".dockerignore").write_text("# text for people\n*.md\n")
    (folder / "README.md").write_text("one\n")
    return folder


@pytest.fixture
def silent_registry() -> Iterator[str]:
    """An image reference at a port that takes connections and never answers. The engine may speak plain HTTP to loopback."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}/python:3.12-slim"


def _run(client: docker.DockerClient, image_id: str, command: str) -> str:
    output = client.containers.run(image_id, ["sh", "-c", command], remove=True, network_mode="none")
    assert isinstance(output, bytes)
    return output.decode()


def _program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.docker
class TestBase:
    def test_image_that_is_there_is_used_without_a_word(self, client: docker.DockerClient) -> None:
        there = base_image_ensure(client, report=print)
        said: list[str] = []
        assert base_image_ensure(client, report=said.append, pulled=ABSENT, built=there) == there
        assert said == []

    def test_tiny_image_is_pinned_by_id_and_has_python(self, client: docker.DockerClient) -> None:
        image_id = tiny_image_ensure(client)
        assert image_id.startswith("sha256:")
        output = client.containers.run(
            image_id, ["sh", "-c", "python3 -c 'import sys; print(sys.version_info >= (3, 11))'"], remove=True, network_mode="none"
        )
        assert output == b"True\n"

    def test_silent_registry_costs_seconds_and_the_refusal_says_what_to_do(
        self, client: docker.DockerClient, silent_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        usual = client.api.timeout
        started = time.monotonic()
        with pytest.raises(ImageUnavailableError) as refusal:
            base_image_ensure(client, report=print, pulled=silent_registry, built=ABSENT)
        assert time.monotonic() - started < 15
        assert client.api.timeout == usual
        reason, advice = str(refusal.value).splitlines()
        assert "not root on a Debian-like system" in reason
        assert "docker load" in advice

    def test_failed_bootstrap_is_typed_and_leaves_no_folder(
        self, client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        programs, temporary = tmp_path / "bin", tmp_path / "temporary"
        programs.mkdir()
        temporary.mkdir()
        _program(programs, "debootstrap", "echo E: no mirror; exit 1")
        _program(programs, "apt-get", "exit 1")
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        with pytest.raises(ImageUnavailableError, match="E: no mirror"):
            base_image_ensure(client, report=print, pulled="127.0.0.1:1/none:1", built=ABSENT, temporary=temporary)
        assert list(temporary.iterdir()) == []

    def test_interrupted_bootstrap_leaves_no_process_mount_or_folder(self, tmp_path: Path) -> None:
        script = (
            "import sys, docker\nfrom pathlib import Path\n"
            "from devstack.images import base_image_ensure\nfrom devstack.processes import Interrupts\n"
            "with Interrupts():\n"
            "    base_image_ensure(docker.from_env(), report=lambda line: print(line, flush=True), pulled='127.0.0.1:1/none:1', "
            f"built={ABSENT!r}, temporary=Path(sys.argv[1]))\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            # From here on it works inside the new root, which is when mounts and chrooted processes exist.
            assert any("extracting packages" in line for line in lines)
            process.send_signal(signal.SIGTERM)
            rest = process.stdout.read()
            assert process.wait(timeout=30) != 0
        assert "StackInterrupted" in rest
        assert list(tmp_path.iterdir()) == []
        assert str(tmp_path) not in Path("/proc/mounts").read_text()
        for commandline in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert str(tmp_path).encode() not in commandline.read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue


@pytest.mark.docker
class TestWorkload:
    def test_second_call_builds_nothing_and_a_change_builds_again(self, client: docker.DockerClient, context: Path, tag: str) -> None:
        base, said = base_image_ensure(client, report=print), list[str]()
        first = workload_image_ensure(client, context=context, tag=tag, base=base, report=said.append)
        assert first.startswith("sha256:")
        assert said
        said.clear()
        (context / "README.md").write_text("two\n")
        assert workload_image_ensure(client, context=context, tag=tag, base=base, report=said.append) == first
        assert said == []
        (context / "program.py").write_text("print('changed')\n")
        second = workload_image_ensure(client, context=context, tag=tag, base=base, report=said.append)
        assert second != first
        with pytest.raises(ImageNotFound):
            client.images.get(first)
        assert _run(client, second, "python3 /program.py") == "changed\n"

    @pytest.mark.parametrize("keeper", ["container", "name", "nobody's label"])
    def test_a_replaced_image_that_is_used_named_or_not_ours_stays(
        self, client: docker.DockerClient, context: Path, tag: str, keeper: str
    ) -> None:
        base = base_image_ensure(client, report=print)
        if keeper == "nobody's label":
            build = client.images.build(fileobj=io.BytesIO(f"FROM {base}\nLABEL of={tag}\n".encode()), tag=tag, rm=True)
            first = str(build[0].id)
        else:
            first = workload_image_ensure(client, context=context, tag=tag, base=base, report=print)
        container = client.containers.create(first, ["true"]) if keeper == "container" else None
        other = f"{tag}-kept"
        if keeper == "name":
            client.images.get(first).tag(other)
        try:
            (context / "program.py").write_text(f"print('{keeper[:4]}')\n")
            assert workload_image_ensure(client, context=context, tag=tag, base=base, report=print) != first
            assert client.images.get(first).id == first
        finally:
            if container is not None:
                container.remove()
            client.images.remove(first, force=True)

    def test_package_index_reaches_the_build_and_not_the_image(
        self, client: docker.DockerClient, context: Path, tag: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = base_image_ensure(client, report=print)
        with (context / "Dockerfile").open("a") as dockerfile:  # a layer of its own: secrets are no part of a cache's key
            dockerfile.write(f"RUN --mount=type=secret,id=pip,target=/run/secrets/pip.conf grep -q hunter2 /run/secrets/pip.conf # {tag}\n")
        monkeypatch.setenv("PIP_INDEX_URL", "https://me:hunter2@index.example/simple")
        image_id = workload_image_ensure(client, context=context, tag=tag, base=base, report=print)
        image = client.images.get(image_id)
        assert "index.example" not in str(image.history()) + str(image.attrs)
        looked = client.containers.run(
            image_id, ["sh", "-c", "cat /run/secrets/* 2>&1 | grep -c hunter2 || true"], remove=True, network_mode="none"
        )
        assert looked == b"0\n"

    def test_without_a_buildkit_cli_the_engine_builds_alone(
        self, client: docker.DockerClient, context: Path, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = base_image_ensure(client, report=print)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert buildkit_cli() is None
        image_id = workload_image_ensure(client, context=context, tag=tag, base=base, report=print)
        assert _run(client, image_id, "ls /built") == "/built\n"

    def test_failing_build_shows_its_last_lines(self, client: docker.DockerClient, context: Path, tag: str) -> None:
        base = base_image_ensure(client, report=print)
        (context / "Dockerfile").write_text("ARG BASE=none\nFROM ${BASE}\nRUN echo the reason why && false\n")
        with pytest.raises(ImageUnavailableError, match="the reason why"):
            workload_image_ensure(client, context=context, tag=tag, base=base, report=print)

    def test_missing_base_is_refused_before_anything_is_built(self, client: docker.DockerClient, context: Path, tag: str) -> None:
        with pytest.raises(ImageUnavailableError, match=f"Expected the base image {ABSENT}"):
            workload_image_ensure(client, context=context, tag=tag, base=ABSENT, report=print)

    def test_cli_that_builds_for_another_engine_is_found_out(
        self, client: docker.DockerClient, context: Path, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        base = base_image_ensure(client, report=print)
        _program(tmp_path, "docker", "echo --secret")
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with pytest.raises(ImageUnavailableError, match="same engine"):
            workload_image_ensure(client, context=context, tag=tag, base=base, report=print)

    def test_engine_address_is_passed_to_the_cli(self, client: docker.DockerClient, context: Path, tag: str) -> None:
        base = base_image_ensure(client, report=print)
        with pytest.raises(ImageUnavailableError, match=r"no-engine\.sock"):
            workload_image_ensure(client, context=context, tag=tag, base=base, report=print, engine_url="unix:///no-engine.sock")


def test_context_digest_covers_bytes_names_modes_and_base(context: Path) -> None:
    digests = [context_digest(context, "sha256:a"), context_digest(context, "sha256:b")]
    (context / "program.py").chmod(0o755)
    digests.append(context_digest(context, "sha256:a"))
    (context / "program.py").rename(context / "renamed.py")
    digests.append(context_digest(context, "sha256:a"))
    (context / "renamed.py").write_text("other")
    digests.append(context_digest(context, "sha256:a"))
    assert len(set(digests)) == 5


def test_context_digest_leaves_out_what_dockerignore_names(context: Path) -> None:
    before = context_digest(context, "sha256:a")
    (context / "README.md").write_text("other")
    assert context_digest(context, "sha256:a") == before


def test_ca_bundle_named_by_the_environment_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("certificates")
    monkeypatch.setenv("PIP_CERT", str(bundle))
    assert ca_bundle() == bundle
    monkeypatch.setenv("PIP_CERT", str(tmp_path / "missing.pem"))
    assert ca_bundle() != tmp_path / "missing.pem"


def test_pip_configuration_holds_the_index_only_where_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert pip_configuration() == ""
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    assert pip_configuration() == "[global]\nindex-url = https://index.example/simple\n"
