"""What follows from the reversal of a payment: the wall shows what was paid and stayed paid."""

from __future__ import annotations

from jobs.models import Replica
from ledger.models import Entry
from nodes.wall.recording import JudgedWork, work_take_back
from workers.protocol.pay import MICRO, payment_micro


def payment_reversed(*, entry: Entry) -> None:
    """Takes the paid replica's work off its owner's day. Called once for each payment, in the transaction that reverses it."""
    replica = Replica.objects.select_related("job").filter(pk=entry.evidence["replica"], concluded_at__isnull=False).first()
    if replica is None or replica.node_owner_id is None or replica.concluded_at is None:
        return
    formula = entry.evidence["formula"]
    work_micro = payment_micro(
        estimated_flops=float(formula["estimated_flops"]), calibration_ratio=float(formula["calibration_ratio"]), rate_micro=MICRO
    )
    work = JudgedWork(replica.node_owner_id, replica.job.job_type, is_accepted=True, work_micro=work_micro, paid_micro=replica.paid_micro)
    work_take_back(work, at=replica.concluded_at)
