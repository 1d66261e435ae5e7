"""A host that runs nothing: it takes orders over HTTP and delivers signed results at once. For what concerns the coordinator alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from client.api import PortalApi
from tests.factories.nodes import profile_make
from tests.factories.receipts import archive_make, log_make
from workers.orders import OpenedOrder, order_open
from workers.portal import PortalClient
from workers.protocol.canonical import json_parse
from workers.protocol.join_tokens import join_token_decode
from workers.protocol.keys import PrivateKey, PublicKey
from workers.protocol.messages.base import PROTOCOL_VERSION
from workers.protocol.messages.delivery import ReceiptAnswer, SubmittedReceipt
from workers.protocol.messages.exchange import ExchangeRequest, FreeResources
from workers.protocol.messages.joining import RegistrationRequest
from workers.protocol.messages.machine import Tier
from workers.receipts import RunOutcome, receipt_sign

OUTPUTS: Final[Mapping[str, bytes]] = {"sum.json": b'{"count": 20, "sum_of_squares": 2870}'}
"""What the tiny example leaves."""
SLOTS: Final = 16


@dataclass(frozen=True)
class Delivery:
    """A result as it is handed in: the blobs that its receipt names, and the receipt."""

    opened: OpenedOrder
    blobs: Mapping[str, bytes]
    receipt: SubmittedReceipt


class HttpHost:
    """One node with its key, joined with its owner's token."""

    def __init__(self, origin: str, *, name: str, owner: PortalApi) -> None:
        self._key = PrivateKey.generate()
        self._session = uuid4()
        self._origin = origin
        self.client = PortalClient(origin, self._key)
        self._coordinator = PublicKey.from_base64(self.client.coordinator().public_key)
        secret = join_token_decode(owner.join_token_mint()).secret
        self.client.register(
            RegistrationRequest(
                protocol_version=PROTOCOL_VERSION,
                join_token=secret,
                name=name,
                public_key=self._key.public.to_base64(),
                profile=profile_make(),
            )
        )

    def orders(self) -> list[OpenedOrder]:
        """What one exchange brings."""
        message = ExchangeRequest(
            protocol_version=PROTOCOL_VERSION,
            request_id=uuid4(),
            session_id=self._session,
            wait_seconds=0,
            queues=(Tier.CPU,),
            free=FreeResources(slots=SLOTS, cpus=64, memory_bytes=2**40, disk_bytes=2**42),
        )
        return [order_open(envelope, coordinator=self._coordinator) for envelope in self.client.exchange(message).orders]

    def result(self, opened: OpenedOrder, outputs: Mapping[str, bytes] = OUTPUTS) -> Delivery:
        """What a run of the order that left `outputs` comes to."""
        archive, info = archive_make(outputs)
        log, reference = log_make(opened.digest)
        now = datetime.now(UTC)
        outcome = RunOutcome(started_at=now, finished_at=now, exit_code=0, archive=info)
        envelope = receipt_sign(opened=opened, outcome=outcome, log=reference, key=self._key, benchmark_gflops=20.0, engine="none")
        receipt = SubmittedReceipt(envelope=json_parse(envelope, limit_bytes=len(envelope)))
        return Delivery(opened, {info.digest: archive, reference.digest: log}, receipt)

    def blobs_upload(self, delivery: Delivery) -> None:
        for digest, data in delivery.blobs.items():
            state = self.client.upload_create(lease_id=delivery.opened.order.lease_id, digest=digest, size_bytes=len(data))
            if state.offset_bytes < len(data):
                self.client.upload_append(
                    state.url, offset_bytes=state.offset_bytes, chunk=data[state.offset_bytes :], size_bytes=len(data)
                )

    def deliver(self, delivery: Delivery) -> ReceiptAnswer:
        """Uploads, and hands the receipt in."""
        self.blobs_upload(delivery)
        return self.client.receipt_submit(delivery.receipt)
