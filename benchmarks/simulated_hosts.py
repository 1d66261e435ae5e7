"""Hosts without containers: threads that take orders over HTTP and report at once, signed as real hosts do. A process of its own.

`python -m benchmarks.simulated_hosts CONFIG`, with a JSON file {origin, slots, keys: [base64 private keys]}; runs until it is ended.
What the portal sees is real: signed exchanges and receipts, a log that begins at the order, an archive without files. What a host checks
for its own sake (the coordinator's signature on an order) is left out: that is not the portal's work.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tempfile
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from workers.portal import PortalClient, PortalUnreachableError
from workers.protocol.archives import ArchiveInfo, archive_write
from workers.protocol.compute_log import LogWriter
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.delivery import SubmittedReceipt
from workers.protocol.messages.exchange import ExchangeRequest, FreeResources
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE, LogReference, ReceiptPredicate, StoredObject, Usage
from workers.protocol.statements import Subject, statement_build
from workers.protocol.strict_base64 import base64_decode, base64_encode

_USAGE: Final = Usage(wall_seconds=0.1, cpu_seconds=0.1, memory_peak_bytes=2**20, samples=1)


class SimulatedHost(threading.Thread):
    """One node: takes up to `slots` orders at a time, and reports them together."""

    def __init__(self, *, origin: str, key: PrivateKey, slots: int, archive: bytes, info: ArchiveInfo) -> None:
        super().__init__(daemon=True)
        self._client = PortalClient(origin, key)
        self._key = key
        self._session_id = uuid4()
        self._free = FreeResources(slots=slots, cpus=1024, memory_bytes=2**42, disk_bytes=2**50)
        self._archive = archive
        self._info = info

    def run(self) -> None:
        while True:
            try:
                self._round()
            except PortalUnreachableError as error:
                print(f"{error}; tried again", file=sys.stderr)  # noqa: T201  its log

    def _round(self) -> None:
        answer = self._client.exchange(
            ExchangeRequest(
                protocol_version=PROTOCOL_VERSION,
                request_id=uuid4(),
                session_id=self._session_id,
                wait_seconds=10,
                queues=(Tier.CPU,),
                free=self._free,
            )
        )
        receipts = [self._receipt(base64_decode(order["payload"])) for order in answer.orders]
        if receipts:
            refused = [result.problem for result in self._client.receipts_submit(receipts) if result.problem is not None]
            if refused:
                raise RuntimeError(f"expected {len(receipts)} receipts to be taken; {len(refused)} were refused: {refused[0]}")

    def _receipt(self, payload_of_order: bytes) -> SubmittedReceipt:
        order, order_digest, now = json.loads(payload_of_order), digest_of(payload_of_order), datetime.now(UTC)
        log, reference = _log(order_digest)
        predicate = ReceiptPredicate(
            order_digest=order_digest,
            replica_id=order["replica_id"],
            lease_id=order["lease_id"],
            node_key_id=self._key.public.key_id,
            started_at=now,
            finished_at=now,
            outcome="completed",
            exit_code=0,
            result_digest=self._info.result_digest,
            archive=StoredObject(digest=self._info.digest, size_bytes=self._info.size_bytes),
            log=reference,
            usage=_USAGE,
            benchmark_gflops=10,
        )
        subjects = [
            Subject.of("log", reference.digest),
            Subject.of("archive", self._info.digest),
            Subject.of("manifest", self._info.result_digest),
        ]
        payload = statement_build(subjects, RECEIPT_PREDICATE_TYPE, predicate.model_dump(mode="json"))
        envelope = json.loads(envelope_sign(payload, PAYLOAD_TYPE_STATEMENT, self._key))
        return SubmittedReceipt(envelope=envelope, log=base64_encode(log), archive=base64_encode(self._archive))


def _log(order_digest: str) -> tuple[bytes, LogReference]:
    out = io.BytesIO()
    writer = LogWriter(out, order_digest)
    writer.start({})
    reference = writer.end({})
    return out.getvalue(), reference


def _empty_archive() -> tuple[bytes, ArchiveInfo]:
    with tempfile.TemporaryDirectory() as folder:
        out = io.BytesIO()
        info = archive_write(Path(folder), out)
    return out.getvalue(), info


def main() -> None:
    """Runs the hosts until the process is ended, or one of them fails."""
    config = json.loads(Path(sys.argv[1]).read_text())
    archive, info = _empty_archive()
    hosts = [
        SimulatedHost(
            origin=config["origin"],
            key=PrivateKey.from_raw(base64.b64decode(key)),
            slots=config["slots"],
            archive=archive,
            info=info,
        )
        for key in config["keys"]
    ]
    for host in hosts:
        host.start()
    while all(host.is_alive() for host in hosts):
        hosts[0].join(1)
    sys.exit("a host has ended; its error stands above")


if __name__ == "__main__":
    main()
