"""Work orders: what a host is told to run, signed by the coordinator.

An order names one replica, one lease and one node; it tells neither the job nor whether others run it too. Inputs come from the
coordinator itself, by digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings

from jobs.descriptor import Descriptor
from jobs.models import Job, JobInput, Replica
from ledger.coordinator_key import coordinator_private_key
from workers.protocol.canonical import canonical_json
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_ORDER, envelope_sign
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.order import ImageReference, Order, OrderInput


def order_build(*, replica: Replica, job: Job, inputs: Sequence[JobInput], lease_id: UUID, node_key_id: str, now: datetime) -> Order:
    """The order for one lease. `inputs` are the job's, their blobs fetched along. Deadline: wall limit and grace from `now`."""
    descriptor = Descriptor.model_validate(job.descriptor)
    limits = descriptor.run_limits
    return Order(
        replica_id=replica.pk,
        lease_id=lease_id,
        node_key_id=node_key_id,
        origin=settings.NEXA_ORIGIN,
        issued_at=now,
        deadline_at=now + timedelta(seconds=limits.wall_seconds + settings.NEXA_DEADLINE_GRACE_SECONDS),
        tier=Tier(replica.tier),
        job_type=job.job_type,
        credit_rate_micro=job.credit_rate_micro,
        image=ImageReference.model_validate(job.image),
        command=descriptor.argv,
        environment=descriptor.environment,
        inputs=tuple(
            OrderInput(
                path=one.path,
                digest=one.blob.digest,
                size_bytes=one.blob.size_bytes,
                url=f"{settings.NEXA_ORIGIN}/api/v1/blobs/{one.blob.digest}",
            )
            for one in inputs
        ),
        outputs=descriptor.expected_outputs,
        limits=limits,
    )


def order_sign(order: Order) -> tuple[bytes, str]:
    """The order's envelope and the digest of its payload. Raises CoordinatorKeyMissingError."""
    payload = canonical_json(order.model_dump(mode="json"))
    return envelope_sign(payload, PAYLOAD_TYPE_ORDER, coordinator_private_key()), digest_of(payload)
