"""What a worker and its child say to each other; the worker believes no line that it has not looked at."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.checking.documents import NO_BLOB, BlobAwayError, BlobDocument, Finding, JobDocument, Outcome, ReplicaDocument, Unmade
from jobs.checking.wire import LineRefusedError, Said, TaskReader, document_files, frame_encode, line_decode, line_encode

OUTCOMES: list[Outcome] = [
    Finding("a", "signature", passed=True, detail={"é": ["\0", 1.5]}),
    Finding("a", "comparison", passed=False, code="results_differ", other_id="b"),
    Unmade("a", "archive", "OSError", "a trace"),
    Unmade("a", "log", "LookupError", "a trace", by_bytes=True),
]


def replica(name: str, archive: BlobDocument, compute_log: BlobDocument = NO_BLOB) -> ReplicaDocument:
    return ReplicaDocument(name, f"lease of {name}", f"order of {name}", b"key", f"envelope of {name}".encode(), archive, compute_log)


def test_documents_arrive_as_they_were_sent_with_their_files(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"from the file")
    descriptor = os.open(tmp_path / "large", os.O_RDONLY)
    document = JobDocument(
        b'{"descriptor": 1}',
        [
            replica("one", BlobDocument("sha256:1", 7, data=b"archive"), BlobDocument("sha256:2", 3, data=b"log")),
            replica("two", BlobDocument("sha256:3", 13, descriptor=descriptor), BlobDocument("sha256:4", 9, away="OSError")),
        ],
        [(0, 1)],
    )
    sender, receiver = socket.socketpair()
    with sender, receiver:
        frame = b"".join(frame_encode(5, document, pieces=[0, 2], cpu_seconds=[20, 60], told_at_once=True))
        socket.send_fds(sender, [frame[:1]], document_files(document))
        sender.sendall(frame[1:])
        os.close(descriptor)
        sender.shutdown(socket.SHUT_WR)
        reader = iter(TaskReader(receiver))
        task = next(reader)
        assert (task.number, task.pieces, task.cpu_seconds, task.told_at_once) == (5, [0, 2], [20, 60], True)
        found = task.document
        assert (found.descriptor, found.pairs, found.replicas[0]) == (document.descriptor, document.pairs, document.replicas[0])
        assert found.replicas[1].envelope == b"envelope of two"
        for _ in range(2):
            with found.replicas[1].archive.open() as file:
                assert file.read() == b"from the file"
        with pytest.raises(BlobAwayError, match="OSError"):
            found.replicas[1].log.open()
        assert list(reader) == []


def test_large_frames_and_many_small_ones_are_put_together_from_pieces() -> None:
    documents = [JobDocument(b"x" * size, [replica("one", NO_BLOB)]) for size in (0, 1, 3_000_000, 5)]
    sender, receiver = socket.socketpair()
    with receiver:

        def send() -> None:
            with sender:
                for number, document in enumerate(documents):
                    sender.sendall(b"".join(frame_encode(number, document, pieces=[0], cpu_seconds=[1], told_at_once=False)))

        thread = threading.Thread(target=send)
        thread.start()
        assert [len(task.document.descriptor) for task in TaskReader(receiver)] == [0, 1, 3_000_000, 5]
        thread.join()


@pytest.mark.parametrize("is_end", [True, False])
def test_lines_say_what_was_meant(is_end: bool) -> None:
    said = Said(3, 1, is_end, OUTCOMES)
    assert line_decode(line_encode(said)[:-1]) == said


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b"[1,2,true]",
        b'["1",2,true,[]]',
        b"[1,2,1,[]]",
        b"[1,2,true,[1]]",
        b'[1,2,true,[["a",null,"log",true,"",[]]]]',
        b'[1,2,true,[["a",1,"log",true,"",{}]]]',
        b'[1,2,true,[["a",null,"log",null,"",{}]]]',
        b'[1,2,true,[["a",null,"log",true,"log_refused",{}]]]',
        b'[1,2,true,[["a",null,"log",false,"",{}]]]',
        b'[1,2,true,[["a",null,"log",false,"of_my_own",{}]]]',
        b'[1,2,true,[["a",null,"log",true,"",{"x":NaN}]]]',
        b'[1,2,true,[["a",null,"log",true,"",{"x":1e999}]]]',
        b'[1,2,true,[["a",null,"log",true,"",{"x":' + b"[" * 8 + b"]" * 8 + b"}]]]",
        b'[1,2,true,[["a",null,"log",false,"check_impossible",{}]]]',
        b'[1,2,true,[["a",null,"log",false,"check_exceeded",{}]]]',
        b'[1,2,true,[["a",null,"log",false,"check_crashed",{}]]]',
        b"[" * 100_000,
        b"\xff",
    ],
    ids=repr,
)
def test_line_of_another_shape_is_refused(line: bytes) -> None:
    with pytest.raises(LineRefusedError):
        line_decode(line)


@given(
    st.binary() | st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists).map(lambda one: json.dumps(one).encode())
)
def test_no_line_raises_anything_else(line: bytes) -> None:
    with contextlib.suppress(LineRefusedError):
        line_decode(line)


def test_trace_is_shortened() -> None:
    said = line_decode(line_encode(Said(1, 0, True, [Unmade("a", "log", "OSError", "x" * 5000 + "end")]))[:-1])
    (found,) = said.outcomes
    assert isinstance(found, Unmade)
    assert (len(found.trace), found.trace[-3:]) == (2000, "end")
