"""Replicas as hosts leave them: leased, run, reported with a real archive, log and signed receipt. Nothing goes over HTTP."""

from __future__ import annotations

import io
import tempfile
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.utils import timezone

from jobs.blobs import blob_write
from jobs.models import Job, Receipt, Replica
from jobs.orders import order_build, order_sign
from jobs.services.transitions import job_state_derive, replica_transition
from jobs.states import ReplicaState
from nodes.models import Node
from tests.factories.nodes import node_make
from tests.factories.people import user_make
from workers.protocol.archives import ArchiveInfo, archive_write
from workers.protocol.compute_log import LogWriter
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, LogReference
from workers.protocol.statements import Subject, statement_build

FILES: Mapping[str, bytes] = {"energies.csv": b"step,energy\n0,-1.0\n1,-2.0\n", "summary.json": b'{"energy":-2.0}'}


def replica_lease(job: Job, node: Node | None = None) -> Replica:
    """Takes a queued replica of the job for `node`, by default one of a new owner."""
    node = node or node_make(user_make())[0]
    replica = job.replicas.filter(state=ReplicaState.QUEUED).order_by("created_at").first()
    assert replica is not None, "the job has no queued replica"
    replica.job, now, lease_id = job, timezone.now(), uuid.uuid4()
    order = order_build(replica=replica, job=job, inputs=[], lease_id=lease_id, node_key_id=node.key_id, now=now)
    envelope, order_digest = order_sign(order)
    replica_transition(
        replica=replica,
        to=ReplicaState.LEASED,
        node=node,
        node_key_id=node.key_id,
        node_owner=node.owner,
        lease_id=lease_id,
        leased_at=now,
        lease_expires_at=now + timedelta(seconds=60),
        deadline_at=order.deadline_at,
        order_envelope=envelope,
        order_digest=order_digest,
    )
    job_state_derive(job=job)
    return replica


def archive_make(files: Mapping[str, bytes]) -> tuple[bytes, ArchiveInfo]:
    """The archive of these files, as a host makes it."""
    with tempfile.TemporaryDirectory() as folder:
        for path, data in files.items():
            target = Path(folder) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        out = io.BytesIO()
        info = archive_write(Path(folder), out)
    return out.getvalue(), info


def hello_write(writer: LogWriter) -> None:
    """What a very short run leaves."""
    writer.output("stdout", b"hello\n")
    writer.sample({"cpu_seconds": 1.0})


def log_make(
    order_digest: str,
    writes: Callable[[LogWriter], None] = hello_write,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> tuple[bytes, LogReference]:
    """A log as a host writes it, with what `writes` puts between start and end."""
    out = io.BytesIO()
    writer = LogWriter(out, order_digest, clock=clock)
    writer.start({})
    writes(writer)
    reference = writer.end({})
    return out.getvalue(), reference


def replica_report(
    job: Job,
    files: Mapping[str, bytes] = FILES,
    *,
    node: Node | None = None,
    key: PrivateKey | None = None,
    archive_bytes: Callable[[bytes], bytes] = lambda data: data,
    log_bytes: Callable[[bytes], bytes] = lambda data: data,
    log_writes: Callable[[LogWriter], None] = hello_write,
    log_clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    subjects: Callable[[dict[str, str]], dict[str, str]] = lambda subjects: subjects,
    sign_key: PrivateKey | None = None,
    envelope_bytes: Callable[[bytes], bytes] = lambda data: data,
    predicate_changed: Callable[[dict[str, Any]], dict[str, Any]] = lambda predicate: predicate,
    cpu_seconds: float = 1.0,
    benchmark_gflops: float = 20.0,
    **changed: Any,
) -> Replica:
    """A replica that ran and reported `files`. The callables change what is stored or stated, `changed` parts of the predicate."""
    if node is None:
        node, key = node_make(user_make())
    assert key is not None, "give the node's key too"
    replica = replica_lease(job, node)
    archive, info = archive_make(files)
    log, reference = log_make(replica.order_digest, log_writes, log_clock)
    archive_blob = blob_write(io.BytesIO(archive_bytes(archive)))
    log_blob = blob_write(io.BytesIO(log_bytes(log)))
    now = timezone.now().isoformat()
    predicate: dict[str, Any] = {
        "receipt_version": 1,
        "order_digest": replica.order_digest,
        "replica_id": str(replica.pk),
        "lease_id": str(replica.lease_id),
        "node_key_id": node.key_id,
        "started_at": now,
        "finished_at": now,
        "outcome": "completed",
        "exit_code": 0,
        "failure": None,
        "result_digest": info.result_digest,
        "archive": {"digest": archive_blob.digest, "size_bytes": archive_blob.size_bytes},
        "log": {**reference.model_dump(), "digest": log_blob.digest, "size_bytes": log_blob.size_bytes},
        "usage": {"wall_seconds": 1.0, "cpu_seconds": cpu_seconds, "memory_peak_bytes": 1, "samples": 1},
        "benchmark_gflops": benchmark_gflops,
        "image_id": None,
        "engine": "",
        **changed,
    }
    predicate = predicate_changed(predicate)
    named = {
        "archive": archive_blob.digest,
        "log": log_blob.digest,
        "manifest": info.result_digest,
    }
    payload = statement_build([Subject.of(name, digest) for name, digest in subjects(named).items()], RECEIPT_PREDICATE_TYPE, predicate)
    Receipt.objects.create(
        replica=replica,
        envelope=envelope_bytes(envelope_sign(payload, PAYLOAD_TYPE_STATEMENT, sign_key or key)),
        digest=digest_of(payload),
        predicate=predicate,
        archive=archive_blob,
        log=log_blob,
        result_digest=info.result_digest,
    )
    replica_transition(replica=replica, to=ReplicaState.REPORTED)
    job_state_derive(job=job)
    return replica
