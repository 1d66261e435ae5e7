"""Containers of a real engine: what they may do is read back from inside, what ends them is told by the right failure.

Those that mean harm are in tests/adversary/.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from devstack.images import base_image_ensure
from workers.protocol.messages.order import ImageReference, Limits
from workers.protocol.messages.receipt import FailureCode
from workers.runtime.docker_engine import DockerRuntime
from workers.runtime.interface import RunResult, RunSpec, RuntimeFailureError, Sample

pytestmark = pytest.mark.docker
HOME = f"test-home-runtime-{os.getpid()}"
"""Of this process alone: other tests may run on the same engine."""


class Sink:
    def __init__(self) -> None:
        self.output = {"stdout": b"", "stderr": b""}
        self.samples: list[Sample] = []
        self.starts: list[bool] = []
        self.results: list[RunResult] = []
        self.running = threading.Event()

    def on_output(self, stream: str, data: bytes) -> None:
        self.output[stream] += data
        self.running.set()

    def on_sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    def on_start(self, *, adopted: bool) -> None:
        self.starts.append(adopted)

    def on_end(self, result: RunResult) -> None:
        self.results.append(result)


@pytest.fixture(scope="module")
def image_id() -> str:
    client = docker.from_env()
    try:
        reference = base_image_ensure(client, report=lambda _: None)
        return str(client.images.get(reference).id)
    finally:
        client.close()


@pytest.fixture
def runtime() -> Iterator[DockerRuntime]:
    made = DockerRuntime()
    yield made
    client = docker.APIClient(version="auto")
    left = client.containers(all=True, filters={"label": f"nexapod.home={HOME}"})
    client.close()
    made.leftovers_remove(HOME)
    made.close()
    assert [(one["Id"], one["Names"], one["Command"], one["Status"]) for one in left] == []


def _spec(folder: Path, image_id: str, *command: str, **limits: Any) -> RunSpec:
    for name in ("inputs", "outputs"):
        (folder / name).mkdir(exist_ok=True)
    defaults = {
        "wall_seconds": 60,
        "memory_bytes": 128 * 2**20,
        "cpus": 0.5,
        "pids": 50,
        "disk_bytes": 64 * 2**20,
        "output_bytes": 32 * 2**20,
    }
    return RunSpec(
        name=f"nexapod-test-{time.monotonic_ns()}",
        labels={"nexapod.home": HOME, "nexapod.lease": "test"},
        image_id=image_id,
        command=command,
        environment={"GIVEN": "yes", "NEXA_INPUTS": "/elsewhere"},
        inputs_dir=folder / "inputs",
        outputs_dir=folder / "outputs",
        limits=Limits(**(defaults | limits)),
    )


def _run(runtime: DockerRuntime, spec: RunSpec) -> tuple[RunResult, Sink]:
    sink = Sink()
    return runtime.run(spec, sink, threading.Event()), sink


def _failure_of(result: RunResult) -> FailureCode | None:
    return result.failure.code if result.failure else None


def test_container_finds_itself_in_the_sandbox(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    spec = _spec(
        tmp_path,
        image_id,
        "sh",
        "-c",
        "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; id -u; id -g; ls /sys/class/net; echo $NEXA_INPUTS $GIVEN;"
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes /sys/fs/cgroup/pids/pids.max"
        " /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max;"
        "cat /inputs/data; touch /outputs/w && echo outputs-writable; touch /inputs/w || echo inputs-refused; touch /w || echo root-refused;"  # noqa: E501  a script of the container
        "touch /tmp/w && echo tmp-writable; ulimit -c; df -k /dev/shm | tail -1; cat /proc/1/comm; ls /dev",
    )
    (spec.inputs_dir / "data").write_text("given-data\n")
    (spec.inputs_dir / "data").chmod(0o600)
    result, sink = _run(runtime, spec)
    text = sink.output["stdout"].decode()
    assert (result.exit_code, result.failure) == (0, None), sink.output
    lines = text.split()
    assert text.startswith("CapBnd") or "CapEff:\t0000000000000000" in text
    assert "CapEff:\t0000000000000000" in text
    assert "CapBnd:\t0000000000000000" in text
    assert "NoNewPrivs:\t1" in text
    assert "Seccomp:\t2" in text
    assert "65534\n65534\nlo\n/inputs yes\n" in text
    assert str(128 * 2**20) in lines
    assert "50" in lines
    assert "50000" in lines
    for said in ("given-data", "outputs-writable", "inputs-refused", "root-refused", "tmp-writable"):
        assert said in lines
    assert "docker-init" in lines or "tini" in lines
    assert str(32 * 1024) in lines
    assert not {"sda", "vda", "kmsg", "mem", "fuse"} & set(lines)
    assert (spec.outputs_dir / "w").exists()


def test_exit_code_and_both_streams_are_told(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    result, sink = _run(runtime, _spec(tmp_path, image_id, "sh", "-c", "echo out; echo err >&2; exit 7"))
    assert (result.exit_code, _failure_of(result)) == (7, FailureCode.EXIT_NONZERO)
    assert sink.output == {"stdout": b"out\n", "stderr": b"err\n"}


def test_command_that_the_image_lacks_is_the_jobs_fault(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    result, _ = _run(runtime, _spec(tmp_path, image_id, "/no/such/program"))
    assert _failure_of(result) is FailureCode.EXIT_NONZERO


def test_cancelled_container_is_gone_within_two_seconds(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    sink, cancel, results = Sink(), threading.Event(), []
    spec = _spec(tmp_path, image_id, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
    thread = threading.Thread(target=lambda: results.append(runtime.run(spec, sink, cancel)))
    thread.start()
    assert sink.running.wait(20)
    begun = time.monotonic()
    cancel.set()
    thread.join(20)
    assert time.monotonic() - begun < 2
    assert _failure_of(results[0]) is FailureCode.CANCELLED


def test_usage_is_measured(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    code = "import time\nx = bytearray(50 * 2**20)\nend = time.monotonic() + 2.5\nwhile time.monotonic() < end: pass"
    result, sink = _run(runtime, _spec(tmp_path, image_id, "python3", "-c", code, cpus=1))
    assert result.usage.samples == len(sink.samples) >= 1
    assert result.usage.memory_peak_bytes > 50 * 2**20
    assert 0.05 < result.usage.cpu_seconds < 3
    assert result.usage.gpu_seconds is None


def test_short_run_is_measured_too(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    result, _ = _run(runtime, _spec(tmp_path, image_id, "python3", "-c", "sum(range(3_000_000))", cpus=2))
    assert 0.01 < result.usage.cpu_seconds < 3
    assert result.usage.memory_peak_bytes > 2**20


def test_closing_waits_for_the_last_sample(tmp_path: Path, image_id: str) -> None:
    closed = DockerRuntime()
    _run(closed, _spec(tmp_path, image_id, "sleep", "0.3"))
    closed.close()
    assert [thread.name for thread in threading.enumerate() if "_samples_take" in thread.name] == []


def test_sink_that_fails_ends_the_run(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    class Broken(Sink):
        def on_output(self, stream: str, data: bytes) -> None:
            raise ValueError("disk of the host")

    result = runtime.run(_spec(tmp_path, image_id, "sh", "-c", "echo x; sleep 60"), Broken(), threading.Event())
    assert _failure_of(result) is FailureCode.HOST_ERROR


def test_disk_that_is_full_for_the_log_ends_the_run(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    class Full(Sink):
        def on_output(self, stream: str, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    result = runtime.run(_spec(tmp_path, image_id, "sh", "-c", "echo x; sleep 60"), Full(), threading.Event())
    assert (_failure_of(result), result.usage.wall_seconds < 20) == (FailureCode.HOST_DISK, True)


def test_leftovers_of_a_home_are_removed(runtime: DockerRuntime, image_id: str) -> None:
    client = docker.APIClient(version="auto")
    made = client.create_container(image_id, command=["sleep", "60"], labels={"nexapod.home": HOME}, network_disabled=True)["Id"]
    client.start(made)
    client.close()
    assert runtime.leftovers_remove(HOME) == 1
    assert runtime.leftovers_remove(HOME) == 0


def _image_ensure(runtime: DockerRuntime, *, timeout_seconds: float = 60, **kwargs: Any) -> str:
    image = ImageReference(name="x", **kwargs)
    return runtime.image_ensure(image, cancel=threading.Event(), report=lambda _: None, timeout_seconds=timeout_seconds)


def test_image_that_is_here_is_found_and_others_are_unavailable(runtime: DockerRuntime, tmp_path: Path, image_id: str) -> None:
    absent = "sha256:" + "0" * 64
    assert _image_ensure(runtime, image_id=image_id) == image_id
    for wanted in ({"image_id": absent}, {"pull": f"127.0.0.1:1/none@{absent}"}):
        with pytest.raises(RuntimeFailureError) as failed:
            _image_ensure(runtime, timeout_seconds=2, **wanted)  # a registry that is away is tried again for as long as there is time
        assert failed.value.failure.code is FailureCode.IMAGE_UNAVAILABLE
    with pytest.raises(RuntimeFailureError) as failed:
        _run(runtime, _spec(tmp_path, absent, "true"))
    assert failed.value.failure.code is FailureCode.IMAGE_UNAVAILABLE


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_engine_that_is_away_is_the_hosts_fault(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailureError) as failed:
        DockerRuntime(f"unix://{tmp_path}/none.sock").profile()
    assert failed.value.failure.code is FailureCode.HOST_ENGINE
    del failed
    gc.collect()  # the SDK leaves the socket that it could not connect open: let it be found here, not in another test


AS_ANOTHER_USER = """
import json, os, pathlib, sys, threading
from tests.workers.runtime.test_docker_engine import Sink, _spec
from workers.runtime.docker_engine import DockerRuntime
script = "id -u; id -g; mkdir -p /outputs/a/b; umask 077; echo kept > /outputs/a/b/c; touch /inputs/x || echo refused"
sink = Sink()
folder, user, socket_group = pathlib.Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
if os.geteuid() == 0:  # here and not before: the interpreter may be readable for root only
    os.chown(folder, user, user)
    os.setgroups([socket_group])
    os.setgid(user)
    os.setuid(user)
runtime = DockerRuntime()
result = runtime.run(_spec(folder, sys.argv[2], "sh", "-c", script), sink, threading.Event())
runtime.close()
kept = (folder / "outputs/a/b/c").read_text()
for name in ("outputs/a/b/c", "outputs/a/b", "outputs/a"):
    path = folder / name
    path.rmdir() if path.is_dir() else path.unlink()
print(json.dumps([os.geteuid(), os.getegid(), sink.output["stdout"].decode(), str(result.failure), kept]))
"""


def test_host_that_is_not_root_can_read_and_remove_what_its_container_wrote(image_id: str) -> None:
    socket_group = Path("/var/run/docker.sock").stat().st_gid
    with tempfile.TemporaryDirectory(prefix="nexapod-test-") as name:  # pytest's own folders are closed to other users
        done = subprocess.run(
            [sys.executable, "-c", AS_ANOTHER_USER, name, image_id, "12345", str(socket_group)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3]), "HOME": name},
            cwd=name,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    user, group, output, failure, kept = json.loads(done.stdout)
    assert user != 0
    assert (output, failure, kept, done.stderr) == (f"{user}\n{group}\nrefused\n", "None", "kept\n", "")
