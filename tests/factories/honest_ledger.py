"""A ledger as an honest coordinator writes it, through its own services: people, hosts, concluded jobs with real receipts."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid4

from ledger.items import ConcludedReceipt, node_key_log, receipts_log
from ledger.models import Account, AccountKind
from ledger.movements import movements_post
from ledger.services import Payment, grant_post, payment_of, refund_of, reservation_of
from tests.factories.logs import FLOPS, RATE_MICRO, Host, LogMaker, receipt_payload
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.pay import payment_micro

RESERVED = 8_000_000
WORTH = payment_micro(estimated_flops=FLOPS, calibration_ratio=1.0, rate_micro=RATE_MICRO)


@dataclass
class HonestLedger:
    """Writes into Django's present database. Nothing is in the log before a checkpoint is published."""

    person: Account = field(default_factory=lambda: Account.objects.create(kind=AccountKind.PERSON))
    hosts: list[Host] = field(default_factory=list)
    _maker: LogMaker = field(default_factory=lambda: LogMaker(uuid4().int))

    def start(self) -> HonestLedger:
        """A person with credits, and two hosts of two owners."""
        grant_post(to=self.person, amount_micro=1_000_000_000, reason="start grant", idempotency_key=f"start:{self.person.pk}")
        for _ in range(2):
            account = Account.objects.create(kind=AccountKind.PERSON)
            host = Host(PrivateKey.generate(), uuid4(), account.pk)
            node_key_log(node_id=host.node, key=host.key.public, account=account)
            self.hosts.append(host)
        return self

    def reserve(self) -> UUID:
        """A job for which credits are set aside."""
        job = uuid4()
        movements_post([reservation_of(account=self.person, job_id=job, amount_micro=RESERVED)])
        return job

    def receipt(self, job: UUID, host: Host, *, quorum: int = 1, sign_key: PrivateKey | None = None, key_id: str = "") -> Payment:
        """Logs an accepted receipt; returns what it earns. `sign_key` signs instead of the host, `key_id` is named as the signer."""
        replica = uuid4()
        payload = receipt_payload(self._maker, host, replica)
        signer = sign_key or host.key
        envelope = envelope_sign(payload, PAYLOAD_TYPE_STATEMENT, signer).replace(
            signer.public.key_id.encode(), (key_id or signer.public.key_id).encode()
        )
        digest = digest_of(payload)
        receipts_log(
            [ConcludedReceipt(job_id=job, replica_id=replica, digest=digest, envelope=envelope, accepted=True, quorum=quorum, spot=None)]
        )
        return self.payment(host, replica=replica, digest=digest)

    def payment(self, host: Host, *, replica: UUID, digest: str) -> Payment:
        """What an accepted receipt of this host earns."""
        account = Account.objects.get(pk=host.account)
        return Payment(account=account, replica_id=replica, node_key_id=host.key.public.key_id, receipt_digest=digest, amount_micro=WORTH)

    def pay(self, job: UUID, *payments: Payment) -> None:
        """Pays and refunds."""
        formula = {
            "version": "1",
            "estimated_flops": repr(FLOPS),
            "calibration_ratio": repr(1.0),
            "rate_micro": str(RATE_MICRO),
            "share_micro": str(RESERVED // len(payments)),
        }
        left_micro = RESERVED - sum(one.amount_micro for one in payments)
        refund = refund_of(account=self.person, job_id=job, amount_micro=left_micro)
        movements_post([*(payment_of(job_id=job, payment=one, formula=formula) for one in payments), *([refund] if refund else [])])

    def conclude(self, *, hosts: int = 1) -> UUID:
        """A whole job."""
        job = self.reserve()
        self.pay(job, *[self.receipt(job, host, quorum=hosts) for host in self.hosts[:hosts]])
        return job
