"""What a child can't do, tried by a child that wants to; and what becomes of the others when one dies. Real processes, real limits."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jobs.checking import children
from jobs.checking.children import ROOT, Child, ChildServer, ChildUnavailableError, outcomes
from jobs.checking.documents import NO_BLOB, OWN_CHECKS, BlobDocument, Finding, JobDocument, Outcome, ReplicaDocument, Unmade
from jobs.checking.endings import Ending
from jobs.checking.pieces import JobPieces

HOSTILE = "tests.jobs.checking.hostile"
MEMORY_BYTES = 256 * 2**20
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server() -> Iterator[ChildServer]:
    made = ChildServer(memory_bytes=MEMORY_BYTES, entry=HOSTILE)
    os.environ["NEXA_TEST_SECRET"] = "a secret of the worker"
    yield made
    made.close()
    del os.environ["NEXA_TEST_SECRET"]


@pytest.fixture
def child(server: ChildServer) -> Iterator[Child]:
    made = server.child_start()
    yield made
    made.close()


def tried(child: Child, do: str, **arguments: Any) -> dict[str, Any]:
    child.channel.settimeout(30)
    child.channel.sendall(json.dumps({"do": do, **arguments}).encode() + b"\n")
    found: dict[str, Any] = json.loads(child.channel.recv(1 << 20))
    return found


def refused(found: dict[str, Any]) -> bool:
    return "error" in found


def test_all_doors_are_found_closed(server: ChildServer, child: Child) -> None:
    assert server.confinement is not None
    assert server.confinement.open_doors == []


def test_memory_beyond_the_limit_is_refused(child: Child) -> None:
    assert tried(child, "allocate", size_bytes=4 * 2**30) == {"error": "MemoryError", "errno": None}


def test_memory_within_the_limit_is_given(child: Child) -> None:
    assert tried(child, "allocate", size_bytes=MEMORY_BYTES // 2) == {"result": MEMORY_BYTES // 2}


def test_child_that_spins_for_ever_is_ended_by_its_processor_time(child: Child) -> None:
    child.channel.settimeout(30)
    child.channel.sendall(b'{"do": "spin"}\n')
    assert child.channel.recv(1) == b""
    assert child.ending()[0] is Ending.TIME


def test_no_file_can_be_written(child: Child, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert refused(tried(child, "write", path=str(tmp_path / "new")))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/1/environ", str(ROOT / "pyproject.toml")])
def test_no_file_outside_can_be_read(child: Child, path: str) -> None:
    assert refused(tried(child, "read", path=path))


def test_file_that_everybody_may_read_cannot_be_read(child: Child, tmp_path: Path) -> None:
    path = tmp_path / "world-readable"
    path.write_text("secret")
    path.chmod(0o644)
    assert refused(tried(child, "read", path=str(path)))


def test_secrets_of_the_worker_are_not_in_the_environment(child: Child) -> None:
    found = tried(child, "environment")["result"]
    assert set(found) <= {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LC_ALL", "LC_CTYPE"}


def test_environment_of_the_worker_in_proc_cannot_be_read(child: Child) -> None:
    assert refused(tried(child, "read", path=f"/proc/{os.getpid()}/environ"))


def test_only_the_channel_is_open(child: Child) -> None:
    found = tried(child, "descriptors")["result"]
    assert found[:3] == [0, 1, 2]
    assert len(found) == 4  # and the channel


def test_server_on_loopback_cannot_be_reached(child: Child) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert refused(tried(child, "connect", port=listening.getsockname()[1]))


def test_abstract_socket_cannot_be_reached(child: Child) -> None:
    name = f"nexapod-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0" + name)
        listening.listen()
        assert refused(tried(child, "abstract", name=name))


@pytest.mark.parametrize("do", ["fork", "program"])
def test_no_process_and_no_program_can_be_started(child: Child, do: str) -> None:
    assert refused(tried(child, do))


def test_no_process_can_be_signalled(child: Child) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as victim:
        assert refused(tried(child, "kill", pid=victim.pid))
        assert victim.poll() is None
        victim.communicate(b"\n")


def test_limits_of_another_process_of_the_same_user_cannot_be_set(child: Child) -> None:
    nobody: dict[str, Any] = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    victim = subprocess.Popen(["/bin/sleep", "60"], **nobody)
    limits = Path(f"/proc/{victim.pid}/limits")
    try:
        before = limits.read_text()
        assert refused(tried(child, "limit", pid=victim.pid))
        assert limits.read_text() == before
    finally:
        victim.kill()
        victim.wait()


@pytest.mark.parametrize(("do", "arguments"), [("owner", {"pid": 1}), ("owner_otherwise", {"pid": 1}), ("signal", {"number": 9})])
def test_no_process_can_be_signalled_by_way_of_a_descriptor(child: Child, do: str, arguments: dict[str, int]) -> None:
    assert tried(child, do, **arguments) == {"error": "PermissionError", "errno": errno.EPERM}


def test_kernel_short_of_memory_ends_children_first(server: ChildServer, child: Child) -> None:
    assert server._process is not None
    assert Path(f"/proc/{server._process.pid}/oom_score_adj").read_text() == "1000\n"


@pytest.mark.parametrize("do", ["mode", "cut"])
def test_file_of_the_same_user_cannot_be_shut_or_cut(child: Child, do: str) -> None:
    with tempfile.NamedTemporaryFile() as file:  # in a folder that anybody can reach
        file.write(b"x")
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        if os.geteuid() == 0:
            os.fchown(file.fileno(), 65534, 65534)
        assert refused(tried(child, do, path=file.name))
        found = os.fstat(file.fileno())
        assert (found.st_mode & 0o777, found.st_size) == (0o644, 1)


def test_child_of_root_is_nobody_and_any_other_stays_who_it_is(child: Child) -> None:
    assert tried(child, "user")["result"][0] == (65534 if os.geteuid() == 0 else os.geteuid())


def test_limits_of_cores_files_and_processes_are_nothing(child: Child) -> None:
    assert tried(child, "limits")["result"] == {name: [0, 0] for name in ("RLIMIT_CORE", "RLIMIT_FSIZE", "RLIMIT_NPROC")}


def test_child_ends_when_its_worker_lets_go(server: ChildServer) -> None:
    child = server.child_start()
    child.channel.settimeout(30)
    child.channel.sendall(b'{"do": "sleep", "seconds": 60}\n')
    child.kill()
    with contextlib.suppress(ConnectionResetError):  # what it had not read yet
        assert child.channel.recv(1) == b""
    assert child.ending()[0] is Ending.KILLED
    child.close()


def test_server_that_has_died_is_started_again(server: ChildServer) -> None:
    first = ChildServer(memory_bytes=MEMORY_BYTES, entry=HOSTILE)
    try:
        first.child_start().close()
        assert first._process is not None
        first._process.kill()
        first._process.wait()
        child = first.child_start()
        assert "result" in tried(child, "user")
        child.close()
    finally:
        first.close()


def test_server_that_cannot_be_started_is_our_fault() -> None:
    made = ChildServer(memory_bytes=MEMORY_BYTES, entry="sys")  # has no main
    with pytest.raises(ChildUnavailableError):
        made.child_start()


# --- one dies, the others go on -------------------------------------------------------------------------------------------


@dataclass
class Given:
    """A job for `outcomes`, of replicas named after what they do to a child."""

    names: list[str]
    pairs: list[tuple[int, int]] = field(default_factory=list)
    blob: BlobDocument = NO_BLOB

    def __post_init__(self) -> None:
        replicas = [ReplicaDocument(name, "", "", b"", b"", self.blob, NO_BLOB) for name in self.names]
        self._document = JobDocument(b"{}", replicas, self.pairs)
        self.pieces = JobPieces(self._document)

    def document_open(self) -> JobDocument:
        return self._document


def found_of(server: ChildServer, *jobs: Given) -> dict[str, list[Outcome]]:
    found: dict[str, list[Outcome]] = {}
    for _, of_piece in outcomes(server, jobs):
        for one in of_piece:
            found.setdefault(one.replica_id + (f" {one.other_id}" if one.other_id else ""), []).append(one)
    return found


def codes(found: list[Outcome]) -> list[tuple[str, str]]:
    return [(one.check_name, one.code) for one in found if isinstance(one, Finding)]


PASSED = [(name, "") for name in OWN_CHECKS]


@pytest.mark.parametrize(("trick", "code"), [("eats", "check_exceeded"), ("spins", "check_exceeded"), ("crashes", "check_crashed")])
def test_replica_that_ends_its_child_fails_and_all_others_pass(server: ChildServer, trick: str, code: str) -> None:
    jobs = [Given([f"{n}"]) for n in range(5)] + [Given([trick])] + [Given([f"{n}"]) for n in range(5, 10)]
    found = found_of(server, *jobs)
    # The intruder's child says of the first check that it passed; it died in the next one.
    assert codes(found.pop(trick)) == [("signature", ""), ("archive", code), ("outputs", "not_checked"), ("log", "not_checked")]
    assert {name: codes(one) for name, one in found.items()} == {str(n): PASSED for n in range(10)}


def test_replica_that_ends_its_child_keeps_no_other_of_its_job_from_being_compared(server: ChildServer) -> None:
    found = found_of(server, Given(["0", "crashes", "2"], [(0, 1), (0, 2), (1, 2)]))
    assert codes(found["crashes"])[1] == ("archive", "check_crashed")
    assert codes(found["0 2"]) == [("comparison", "")]
    assert found.keys() == {"0", "crashes", "2", "0 2"}


def test_pair_that_ends_its_child_is_evidence_of_the_pair_alone(server: ChildServer) -> None:
    found = found_of(server, Given(["0", "eats+1", "2"], [(0, 1), (0, 2), (1, 2)]))
    assert codes(found["0 eats+1"]) == [("comparison", "check_exceeded")]
    assert codes(found["0 2"]) == [("comparison", "")]
    assert codes(found["eats+1 2"]) == [("comparison", "")]


@pytest.mark.parametrize("trick", ["babbles", "lies", "leaves"])
def test_child_that_does_not_keep_to_the_protocol_accuses_nobody(server: ChildServer, trick: str) -> None:
    found = found_of(server, Given([trick]), Given(["1"]))
    assert any(isinstance(one, Unmade) for one in found[trick])
    assert all(code == "" for _, code in codes(found[trick]))
    assert codes(found["1"]) == PASSED


def test_child_that_talks_for_ever_is_late_all_the_same(server: ChildServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "piece_wall_seconds", lambda _: 1.0)
    found = found_of(server, Given(["chatters"]))
    assert [type(one) for one in found["chatters"]][-1] is Unmade


def test_child_that_is_killed_once_costs_nothing(server: ChildServer) -> None:
    first = server.child_start()  # the server runs from here on, and has no child once this one's end was told
    first.kill()
    first.ending()
    first.close()
    assert server._process is not None
    children_path = Path(f"/proc/{server._process.pid}/task/{server._process.pid}/children")
    killed: list[str] = []

    def killer() -> None:
        until = time.monotonic() + 20
        while not killed and time.monotonic() < until:
            for pid in children_path.read_text().split():
                os.kill(int(pid), 9)
                killed.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    found = found_of(server, *(Given([f"{n}"]) for n in range(300)))
    thread.join()
    assert len(killed) == 1
    assert {name: codes(one) for name, one in found.items()} == {str(n): PASSED for n in range(300)}


def test_documents_with_open_files_reach_the_child(server: ChildServer, tmp_path: Path) -> None:
    jobs = []
    for n in range(3):
        path = tmp_path / str(n)
        path.write_bytes(b"x")
        jobs.append(Given([f"{n}-{k}" for k in range(40)], blob=BlobDocument(None, 1, descriptor=os.open(path, os.O_RDONLY))))
    for job in jobs:  # one descriptor of its own for each
        for replica in job._document.replicas[1:]:
            object.__setattr__(replica, "archive", BlobDocument(None, 1, descriptor=os.dup(replica.archive.descriptor or 0)))
    found = found_of(server, *jobs)
    assert len(found) == 120
    assert all(codes(one) == PASSED for one in found.values())


def test_no_child_to_be_had_makes_no_check_and_accuses_nobody() -> None:
    made = ChildServer(memory_bytes=MEMORY_BYTES, entry="sys")
    found = found_of(made, Given(["0", "1"], [(0, 1)]), Given(["2"]))
    assert {name: [type(one) for one in each] for name, each in found.items()} == {"0": [Unmade], "1": [Unmade], "2": [Unmade]}
