"""A verify worker's side of its children: it starts the server of them, hands out documents, bounds the time, and survives their deaths.

1. One server a process, started when it is first needed, ended with the process. It gets an empty environment and one descriptor.
2. One child serves a whole slice. Documents are sent ahead of its answers, so that neither waits for the other; the first that is not
   answered to its end is the one in hand.
3. When a child dies, the others that it had been sent are sent to the next one. pieces.py says what becomes of the one in hand.
4. What a child says is checked (wire.line_decode, JobPieces.said); one that says anything else is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from jobs.checking.allowances import PIECE_SECONDS_MAX, piece_cpu_seconds, piece_wall_seconds
from jobs.checking.confinement import Confinement, process_hide
from jobs.checking.documents import JobDocument, Outcome
from jobs.checking.endings import Ending, ending_of
from jobs.checking.pieces import JobPieces
from jobs.checking.wire import FILES_MAX, LINE_BYTES_MAX, LineRefusedError, document_files, frame_encode, line_decode

log = logging.getLogger(__name__)

ROOT: Final = Path(__file__).resolve().parents[2]
ENTRY: Final = "jobs.checking.child"
START_SECONDS_MAX: Final = 60
SENT_AHEAD_MAX: Final = 64
SENT_AHEAD_BYTES_MAX: Final = 4 * 2**20
BUFFERS_MAX: Final = 64
"""In one system call; the kernel takes up to 1024."""
_BOOT: Final = "import sys; sys.path.insert(0, sys.argv[1]); from {entry} import main; main()"
# One thread for numpy: a process with threads can't be forked safely, and slices run side by side anyway.
_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}


class ChildUnavailableError(Exception):
    """No child can be started: the portal's fault. Nothing can be checked here until it is mended."""


class CheckedJob(Protocol):
    """A job whose pieces are to be made."""

    @property
    def pieces(self) -> JobPieces: ...

    def document_open(self) -> JobDocument:
        """The document with its blobs read or opened. Whoever asks closes its files."""


JobT = TypeVar("JobT", bound=CheckedJob)


class Child:
    """A running child: its channel, and the leash that kills it and tells how it ended."""

    def __init__(self, channel: socket.socket, leash: socket.socket) -> None:
        self.channel = channel
        self._leash = leash
        channel.setblocking(False)
        leash.settimeout(30)

    def kill(self) -> None:
        """Ends it, at once. Ending it twice is fine."""
        with contextlib.suppress(OSError):
            self._leash.shutdown(socket.SHUT_WR)  # no word: one that is not read any more would take the answer with it

    def ending(self) -> tuple[Ending, int, int]:
        """(how it ended, in which job, at which piece), once its channel is closed. ChildUnavailableError if its server is gone, too."""
        try:
            said = self._leash.recv(256)
        except OSError as error:
            raise ChildUnavailableError(f"a child's end was not told: {error}") from error
        if not said:
            raise ChildUnavailableError("the server of children has ended")
        exit_code, job, piece = json.loads(said)
        return ending_of(exit_code), job, piece

    def close(self) -> None:
        """Closing kills it, if it still runs."""
        self.channel.close()
        self._leash.close()


class ChildServer:
    """Starts children. Thread-safe; not to be used by a process forked later, which needs one of its own (`child_server`)."""

    def __init__(self, *, memory_bytes: int, entry: str = ENTRY, root: Path = ROOT) -> None:
        self._memory_bytes, self._entry, self._root = memory_bytes, entry, root
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.confinement: Confinement | None = None
        """What its children are kept from; None before the first start."""

    def child_start(self) -> Child:
        """A fresh child. Raises ChildUnavailableError."""
        channel, channel_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        leash, leash_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        limits = json.dumps({"memory_bytes": self._memory_bytes, "cpu_seconds": 2 * PIECE_SECONDS_MAX}).encode("ascii")
        try:
            with channel_far, leash_far, self._lock:
                for attempt in (1, 2):
                    try:
                        socket.send_fds(self._started(), [limits], [channel_far.fileno(), leash_far.fileno()])
                        break
                    except OSError as error:
                        self._end()
                        if attempt == 2:
                            raise ChildUnavailableError(f"the server of children does not answer: {error}") from error
        except ChildUnavailableError:
            channel.close()
            leash.close()
            raise
        return Child(channel, leash)

    def close(self) -> None:
        """Ends the server, and the children with it."""
        with self._lock:
            self._end()

    def abandon(self) -> None:
        """For a forked copy of this process: lets go of the server, which is another process's."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.returncode = 0  # not this process's child: Popen must not wait for it
        self._control = self._process = None
        self._lock = threading.Lock()

    def _started(self) -> socket.socket:
        if self._control is not None:
            return self._control
        if os.geteuid() != 0:
            process_hide()
        control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            command = [sys.executable, "-I", "-c", _BOOT.format(entry=self._entry), str(self._root), str(far.fileno())]
            self._process = subprocess.Popen(command, env=dict(_ENVIRONMENT), pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, cwd="/")
        control.settimeout(START_SECONDS_MAX)
        self._control = control
        try:
            hello = control.recv(4096)
            if not hello:
                raise ConnectionError("it ended before it was ready; its standard error says why")
            self.confinement = Confinement(**json.loads(hello))
        except OSError as error:
            self._end()
            raise ChildUnavailableError(f"the server of children was not started: {error}") from error
        if self.confinement.open_doors:
            log.warning("checks run in children that are less confined than they should be: %s", "; ".join(self.confinement.open_doors))
        else:
            log.info("checks run in children without network, files, programs and root")
        return control

    def _end(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._control = self._process = None


@cache
def child_server(memory_bytes: int) -> ChildServer:
    """The one of this process, with this memory for each child beyond what it starts with."""
    server = ChildServer(memory_bytes=memory_bytes)
    atexit.register(server.close)
    os.register_at_fork(after_in_child=server.abandon)
    return server


def outcomes(server: ChildServer, jobs: Iterable[JobT]) -> Generator[tuple[JobT, list[Outcome]]]:
    """Has the jobs checked in children, and gives what is found, as it is found. Raises nothing of a child's doing."""
    run = _Run(server, iter(jobs))
    try:
        yield from run.outcomes()
    finally:
        run.close()


class _Run(Generic[JobT]):
    def __init__(self, server: ChildServer, jobs: Iterator[JobT]) -> None:
        self._server, self._jobs = server, jobs
        self._again: deque[JobT] = deque()
        """What a child died before, or that has more to do."""
        self._next: tuple[JobT, JobDocument] | None = None
        """Opened, to be sent when its turn comes."""
        self._sent: dict[int, JobT] = {}
        """By number, in the order in which they were sent: the first is in hand."""
        self._number = 0
        self._child: Child | None = None
        self._out: deque[tuple[memoryview, list[int]]] = deque()
        """Bytes to be sent, and the open files that go with their first one."""
        self._out_bytes = 0
        self._is_apart = False
        """Whether what was sent last has the child to itself."""
        self._read = bytearray()
        self._in_hand: tuple[int, int] | None = None
        self._deadline = 0.0

    def close(self) -> None:
        self._child_forget()

    def outcomes(self) -> Iterator[tuple[JobT, list[Outcome]]]:
        while True:
            try:
                self._fill()
                if not self._sent:
                    return
                if self._child is None:
                    self._child = self._server.child_start()
                yield from self._turn(self._child)
            except ChildUnavailableError as error:
                log.exception("checks are not made")
                self._child_forget()
                for job in chain(self._again, self._jobs):
                    yield job, job.pieces.all_unmade(f"ChildUnavailableError: {error}")
                return

    def _fill(self) -> None:
        """Prepares frames as far ahead as is good. A piece tried alone, or a document with open files, has the child to itself."""
        while len(self._sent) < SENT_AHEAD_MAX and self._out_bytes < SENT_AHEAD_BYTES_MAX:
            if self._next is None and (job := self._job_next()) is not None:
                self._next = (job, job.document_open())
            if self._next is None:
                return
            job, document = self._next
            files = document_files(document)
            is_apart = bool(files) or job.pieces.alone
            if self._sent and (is_apart or self._is_apart):
                return
            self._next, self._is_apart = None, is_apart
            self._number += 1
            self._sent[self._number] = job
            self._frame_add(job, document, files)

    def _job_next(self) -> JobT | None:
        while True:
            job = self._again.popleft() if self._again else next(self._jobs, None)
            if job is None or job.pieces.ask():
                return job

    def _frame_add(self, job: JobT, document: JobDocument, files: list[int]) -> None:
        places, asked = document.pieces(), job.pieces.asked
        seconds = [piece_cpu_seconds(document, places[number]) for number in asked]
        parts = frame_encode(self._number, document, pieces=asked, cpu_seconds=seconds, told_at_once=job.pieces.alone)
        frame = memoryview(b"".join(parts))
        for first in range(0, len(files), FILES_MAX):  # each lot needs a byte to go with
            self._out.append((frame[:1], files[first : first + FILES_MAX]))
            frame = frame[1:]
        self._out.append((frame, []))
        self._out_bytes += sum(map(len, parts))

    def _turn(self, child: Child) -> Iterator[tuple[JobT, list[Outcome]]]:
        """Waits until something can be sent or read, or is late, and does it."""
        self._clock_set()
        left = self._deadline - time.monotonic()
        poll = select.poll()
        poll.register(child.channel, select.POLLIN | (select.POLLOUT if self._out else 0))
        events = sum(event for _, event in poll.poll(max(0.0, left) * 1000))
        if not events:
            if left <= 0:
                yield from self._died(child, Ending.LATE)
            return
        if events & select.POLLOUT and not self._send(child):
            yield from self._died(child)
            return
        if events & ~select.POLLOUT:
            try:
                data = child.channel.recv(1 << 18)
            except OSError:
                data = b""
            if not data:
                yield from self._died(child)
                return
            self._read += data
            in_hand = self._in_hand
            yield from self._lines(child)
            # One that talks on is late as well, once what it said in time was heard.
            if left <= 0 and child is self._child and self._sent and self._first() == in_hand:
                yield from self._died(child, Ending.LATE)

    def _first(self) -> tuple[int, int]:
        """The job, by its number, and the piece of it that is in hand."""
        number, job = next(iter(self._sent.items()))
        return number, job.pieces.asked[0]

    def _clock_set(self) -> None:
        """A piece's time begins when it is in hand, and its bytes are sent; words in between don't prolong it."""
        number, piece = self._first()
        pieces = self._sent[number].pieces
        if self._in_hand != (number, piece):
            self._in_hand = (number, piece)
            seconds = piece_cpu_seconds(pieces.document, pieces.document.pieces()[piece])
            self._deadline = time.monotonic() + piece_wall_seconds(seconds)

    def _send(self, child: Child) -> bool:
        """Sends what can be sent. False: there is nobody any more."""
        while self._out:
            files = self._out[0][1]
            rest = takewhile(lambda part: not part[1], islice(self._out, 1, BUFFERS_MAX))
            parts = [self._out[0][0], *(data for data, _ in rest)]
            try:
                count = socket.send_fds(child.channel, parts, files) if files else child.channel.sendmsg(parts)
            except BlockingIOError:
                return True
            except OSError:
                return False
            for descriptor in files:
                os.close(descriptor)
            self._out[0] = (parts[0], [])
            self._out_bytes -= count
            while self._out and count >= len(self._out[0][0]):
                count -= len(self._out.popleft()[0])
            if count:
                self._out[0] = (self._out[0][0][count:], [])
        return True

    def _lines(self, child: Child) -> Iterator[tuple[JobT, list[Outcome]]]:
        *lines, rest = self._read.split(b"\n")
        self._read = rest
        try:
            for line in lines:
                said = line_decode(bytes(line))
                number, job = next(iter(self._sent.items()), (0, None))
                if job is None or said.job != number:
                    raise LineRefusedError(f"expected a word of job {number}; found one of {said.job}")  # noqa: TRY301  one place ends it
                news = job.pieces.said(said)
                if not job.pieces.asked:
                    del self._sent[number]
                    self._again.append(job)
                yield job, news
            if len(rest) > LINE_BYTES_MAX:
                raise LineRefusedError(f"expected a line of at most {LINE_BYTES_MAX} bytes; found more")  # noqa: TRY301  as above
        except LineRefusedError:
            log.exception("a child said what no child says")
            yield from self._died(child, Ending.FAULT)

    def _died(self, child: Child, why: Ending | None = None) -> Iterator[tuple[JobT, list[Outcome]]]:
        """The child is gone, or has to go (`why`). Puts its work back, and says what is to be said of the one in hand."""
        child.kill()  # one that only closed its channel; the end of one that has ended stays what it was
        ending, number, piece = child.ending()
        ending = why or ending
        in_hand = self._sent.get(number) or next(iter(self._sent.values()), None)
        if in_hand is not None:
            replicas = ", ".join(replica.replica_id for replica in in_hand.pieces.document.replicas)
            log.warning("a child's end, %r, in the middle of a check of replicas %s", ending.value, replicas)
            yield in_hand, in_hand.pieces.died(ending, piece)
        self._child_forget()

    def _child_forget(self) -> None:
        """Whatever was sent, or prepared, is to be sent again."""
        self._files_drop()
        if self._next is not None:
            job, document = self._next
            for descriptor in document_files(document):
                os.close(descriptor)
            self._again.appendleft(job)
            self._next = None
        self._again.extendleft(reversed(self._sent.values()))
        self._sent.clear()
        self._read.clear()
        self._in_hand = None
        if self._child is not None:
            self._child.close()
            self._child = None

    def _files_drop(self) -> None:
        for _, files in self._out:
            for descriptor in files:
                os.close(descriptor)
        self._out.clear()
        self._out_bytes = 0
