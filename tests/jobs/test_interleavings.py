"""Any interleaving of what happens to jobs keeps books, votes and states right: a machine draws the next one, on the real services."""

from __future__ import annotations

import base64
import json
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import pytest
from django.db import connection, transaction
from django.db.models import Q
from django.test import override_settings
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from jobs.checking import claims
from jobs.checking.codes import CHECK_IMPOSSIBLE
from jobs.checking.documents import Finding, failure_findings
from jobs.checking.evidence import evidence_insert
from jobs.checking.making import jobs_check
from jobs.errors import JobConcludedError, JobDisputedError
from jobs.models import CoordinatorClock, Evidence, Job, Receipt, Replica, Ruling
from jobs.services.breakers import breaker_open
from jobs.services.disputes import dispute_rule, disputes_rule, may_be_upheld
from jobs.services.leases import leases_claim, leases_reap, queue_deadlines_enforce
from jobs.services.receipts import TakenReceipt, receipts_accept
from jobs.services.settlement import NEVER, jobs_settle
from jobs.services.submission import job_cancel
from jobs.states import JOB_OPEN, JOB_TERMINAL, REPLICA_EXCLUSIVE, REPLICA_LIVE, JobState, ReplicaState
from ledger.models import Account, Entry, EntryKind, Posting
from ledger.movements import CreditsInsufficientError
from ledger.services import account_of, escrow_account, treasury_account
from nodes.models import Node
from people.errors import ActPointlessError
from tests.factories.jobs import IMAGE_NAME, credits_grant, image_approve, job_make
from tests.factories.nodes import node_make
from tests.factories.people import moderator_make, researcher_make, user_make
from tests.factories.receipts import FILES, archive_make, log_make
from tests.jobs.test_leases import silence
from workers.protocol.archives import ArchiveInfo
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.delivery import SubmittedReceipt
from workers.protocol.messages.exchange import FreeResources, Wishes
from workers.protocol.messages.machine import Tier
from workers.protocol.messages.receipt import RECEIPT_PREDICATE_TYPE
from workers.protocol.statements import Subject, statement_build

FREE = FreeResources(slots=1, cpus=8, memory_bytes=2**36, disk_bytes=2**40)
START_MICRO = 60_000
"""A job reserves 8000 or more: after some submissions there is too little."""
POLICIES = (
    {"method": "exact"},
    {"method": "exact", "copies": 2, "quorum": 2},
    {"method": "exact", "copies": 3, "quorum": 2},
    {"method": "exact", "policy": "spot", "spot_share": 1.0},
)
RESULTS = ("honest", "honest", "different", "odd", "invalid")
FAILURES = ("exit_nonzero", "image_unavailable", "host_disk", "host_stopped", "cancelled")
UNREPORTED = Q(lease_id__isnull=False, receipt=None)
QUEUED = Q(state=ReplicaState.QUEUED)
LIVE = Q(state__in=REPLICA_LIVE)
UNCHECKED = Q(state=ReplicaState.REPORTED, evidence=None, verify_claimed_until=None)
TO_VERIFY = Q(state=ReplicaState.REPORTED) & (Q(verify_claimed_until=None) | ~Q(verify_claimed_until=NEVER))
HOSTS = 5
"""Of four owners, of whom the first has two, and the last is a researcher too."""
RuleT = TypeVar("RuleT", bound=Callable[..., Any])
any_place = st.integers(0, 10**6)


@cache
def archive_of(result: str) -> tuple[bytes, ArchiveInfo]:
    """The archive of a run that ended like this; of an invalid one, bytes that are none."""
    data, info = archive_make({**FILES, "summary.json": json.dumps({"host": result}).encode()})
    return (b"none", info) if result == "invalid" else (data, info)


def submitted_of(replica: Replica, key: PrivateKey, *, result: str = "", failure: str = "") -> SubmittedReceipt:
    """What the host of this lease sends."""
    log, reference = log_make(replica.order_digest)
    named = {"log": digest_of(log)}
    predicate: dict[str, Any] = {
        "receipt_version": 1,
        "order_digest": replica.order_digest,
        "replica_id": str(replica.pk),
        "lease_id": str(replica.lease_id),
        "node_key_id": key.public.key_id,
        "started_at": (now := timezone.now().isoformat()),
        "finished_at": now,
        "outcome": "failed" if failure else "completed",
        "exit_code": None if failure else 0,
        "failure": {"code": failure, "message": "It failed."} if failure else None,
        "result_digest": None,
        "archive": None,
        "log": {**reference.model_dump(), "digest": digest_of(log), "size_bytes": len(log)},
        "usage": {"wall_seconds": 1.0, "cpu_seconds": 1.0, "memory_peak_bytes": 1, "samples": 1},
        "benchmark_gflops": 20.0,
    }
    blobs = {"log": log}
    if result:
        blobs["archive"], info = archive_of(result)
        digest = digest_of(blobs["archive"])
        predicate.update(archive={"digest": digest, "size_bytes": len(blobs["archive"])}, result_digest=info.result_digest)
        named.update(archive=digest, manifest=info.result_digest)
    payload = statement_build([Subject.of(name, digest) for name, digest in named.items()], RECEIPT_PREDICATE_TYPE, predicate)
    envelope = json.loads(envelope_sign(payload, PAYLOAD_TYPE_STATEMENT, key))
    return SubmittedReceipt(envelope=envelope, **{name: base64.b64encode(data).decode() for name, data in blobs.items()})


def some(found: Q) -> Callable[[RuleT], RuleT]:
    """A rule for when there are such replicas: what can't happen is not drawn."""
    return precondition(lambda _: Replica.objects.filter(found).exists())


class Portal(RuleBasedStateMachine):
    """Two researchers and five hosts."""

    def __init__(self) -> None:
        super().__init__()
        self._atomic = transaction.atomic()
        self._atomic._from_testcase = True  # type: ignore[attr-defined]  # as Django's own
        self._atomic.__enter__()

    def teardown(self) -> None:
        try:
            if hasattr(self, "hosts"):
                self._conclude_everything()
        finally:
            transaction.set_rollback(True)
            self._atomic.__exit__(None, None, None)

    @initialize(hosts_stay=st.booleans(), verifications=st.lists(st.sampled_from(POLICIES), min_size=1, max_size=2))
    def begin(self, hosts_stay: bool, verifications: list[dict[str, Any]]) -> None:
        self.hosts_stay = hosts_stay
        image_approve()
        self.researchers = [researcher_make(), researcher_make()]
        for researcher in self.researchers:
            credits_grant(researcher, START_MICRO)
        owners = [user_make(), user_make(), user_make(), self.researchers[0]]
        self.hosts: list[tuple[Node, PrivateKey]] = [node_make(owner) for owner in (owners[0], *owners)]
        assert len(self.hosts) == HOSTS
        self.moderator = moderator_make()
        self.sent: dict[uuid.UUID, SubmittedReceipt] = {}
        for verification in verifications:
            self.submit(0, verification, tight=True)

    # --- what happens ---

    @rule(researcher=st.integers(0, 1), verification=st.sampled_from(POLICIES), tight=st.booleans())
    def submit(self, researcher: int, verification: dict[str, Any], tight: bool) -> None:
        """`tight`: no more replicas than must agree at least, so that results which differ are a dispute."""
        owner = self.researchers[researcher]
        before = account_of(user=owner).balance_micro
        try:
            job = job_make(owner, verification=verification)
        except CreditsInsufficientError:
            assert account_of(user=owner).balance_micro == before
        else:
            assert account_of(user=owner).balance_micro == before - job.reserved_micro
            if tight:
                Job.objects.filter(pk=job.pk).update(replicas_max=max(2, job.copies))

    @some(QUEUED)
    @rule(host=st.integers(0, HOSTS - 1))
    def claim(self, host: int) -> None:
        self._claim(self.hosts[host][0])

    @some(UNREPORTED)
    @rule(which=any_place, result=st.sampled_from(RESULTS))
    def report(self, which: int, result: str) -> None:
        """A result, in time, after the lease expired, or when it is needed no more."""
        self._receipt(which, result=result)

    @some(QUEUED)
    @rule(results=st.one_of(st.lists(st.sampled_from(RESULTS), min_size=1, max_size=HOSTS), st.permutations(RESULTS[1:])))
    def run(self, results: list[str]) -> None:
        """Hosts take what there is, report it at once, and it is verified."""
        for (node, _), result in zip(self.hosts, results, strict=False):
            for replica in self._claim(node):
                self._report(replica, result=result)
        self._verify()

    @some(UNREPORTED)
    @rule(which=any_place, failure=st.sampled_from(FAILURES))
    def fail(self, which: int, failure: str) -> None:
        """Whatever a host says of its run, results that may be a quorum and that nobody decided on stay to be decided on."""
        replica = self._chosen(which, Replica.objects.filter(UNREPORTED))
        reported = list(replica.job.replicas.filter(state=ReplicaState.REPORTED).values_list("pk", "verify_claimed_until"))
        self._report(replica, failure=failure)
        if len(reported) >= replica.job.quorum and any(until != NEVER for _, until in reported):
            assert Replica.objects.filter(pk__in=[pk for pk, _ in reported], state=ReplicaState.REPORTED).count() == len(reported)

    @precondition(lambda self: self.sent)
    @rule(which=any_place)
    def repeat(self, which: int) -> None:
        """A receipt again: nothing changes."""
        replica_id = list(self.sent)[which % len(self.sent)]
        before = self._states()
        self._send(Replica.objects.get(pk=replica_id), self.sent[replica_id])
        assert self._states() == before

    @some(LIVE)
    @rule(which=any_place)
    def expire(self, which: int) -> None:
        replica = self._chosen(which, Replica.objects.filter(LIVE))
        now = silence(replica)
        Replica.objects.filter(LIVE).exclude(pk=replica.pk).update(lease_expires_at=now + timedelta(seconds=60))
        assert leases_reap(now=now) == 1

    @some(TO_VERIFY)
    @rule()
    def verify(self) -> None:
        self._verify()

    @some(TO_VERIFY)
    @rule()
    def check_and_die(self) -> None:
        """Checked, and the worker that should have settled is gone: it is claimed again later."""
        for batch in claims.batches_claim(now=timezone.now()):
            jobs_check(job_ids=batch.job_ids)

    @some(Q())
    @rule()
    def settle(self) -> None:
        """All jobs, at any time: decided from what evidence there is, and again."""
        for _ in range(2):
            jobs_settle(job_ids=list(Job.objects.order_by("submitted_at").values_list("pk", flat=True)))

    @some(UNCHECKED)
    @rule(which=any_place)
    def check_is_impossible(self, which: int) -> None:
        """The store is away for so long that a check is given up."""
        replica = self._chosen(which, Replica.objects.filter(UNCHECKED))
        signature = Finding(str(replica.pk), "signature", passed=True)
        evidence_insert([signature, *failure_findings(str(replica.pk), "archive", code=CHECK_IMPOSSIBLE, message="away")])

    @some(Q())
    @rule(which=any_place)
    def cancel(self, which: int) -> None:
        job = self._chosen(which, Job.objects.all())
        with suppress(JobConcludedError, JobDisputedError):
            assert job_cancel(job=job).state == JobState.CANCELLED

    @some(Q(job__state=JobState.DISPUTED))
    @rule(which=any_place, result=any_place, upheld=st.booleans())
    def judge(self, which: int, result: int, upheld: bool) -> None:
        job = self._chosen(which, Job.objects.filter(state=JobState.DISPUTED))
        found = [one for one in job.replicas.order_by("created_at", "pk") if may_be_upheld(one)]
        canonical = found[result % len(found)] if found and upheld else None
        ruling = dispute_rule(job=job, by=self.moderator, canonical=canonical, reason="So be it.")
        assert ruling.canonical == canonical

    @rule(researcher=st.integers(0, 1))
    def grant(self, researcher: int) -> None:
        credits_grant(self.researchers[researcher], 10_000)

    # --- what holds ---

    @invariant()
    def books_balance(self) -> None:
        assert sum(Posting.objects.values_list("amount_micro", flat=True)) == 0
        balances = {account: account.balance_micro for account in Account.objects.all()}
        treasury = balances.pop(treasury_account())
        assert treasury == -sum(balances.values())
        assert all(balance >= 0 for balance in balances.values())
        held = Job.objects.exclude(state__in=JOB_TERMINAL).values_list("reserved_micro", flat=True)
        assert balances[escrow_account()] == sum(held)
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")

    @invariant()
    def each_accepted_replica_is_paid_once_and_nobody_else(self) -> None:
        accepted = Replica.objects.filter(state=ReplicaState.ACCEPTED)
        expected = {f"payment:{one.pk}": (one.node_owner_id, one.paid_micro) for one in accepted}
        paid = Posting.objects.filter(entry__kind=EntryKind.PAYMENT, amount_micro__gt=0)
        rows = list(paid.values_list("entry__idempotency_key", "account__owner_id", "amount_micro"))
        assert {key: (owner, amount) for key, owner, amount in rows} == expected
        assert len(rows) == Entry.objects.filter(kind=EntryKind.PAYMENT).count() == len(expected)
        assert not Replica.objects.exclude(state=ReplicaState.ACCEPTED).filter(paid_micro__gt=0).exists()

    @invariant()
    def an_owner_has_one_vote(self) -> None:
        exclusive = Replica.objects.filter(state__in=REPLICA_EXCLUSIVE).values_list("job_id", "node_owner_id")
        assert all(count == 1 for count in Counter(exclusive).values())

    @invariant()
    def jobs_are_as_their_replicas_say(self) -> None:
        for job in Job.objects.all():
            states = Counter(job.replicas.values_list("state", flat=True))
            live = sum(states[state] for state in REPLICA_LIVE)
            out = live + states[ReplicaState.QUEUED]
            match JobState(job.state):
                case JobState.QUEUED:
                    assert (live, out > 0) == (0, True)
                case JobState.RUNNING:
                    assert live > 0
                case JobState.VERIFYING:
                    assert (out, states[ReplicaState.REPORTED] > 0) == (0, True)
                case JobState.DISPUTED:
                    assert (out, states[ReplicaState.REPORTED] > 0) == (0, True)
                    assert job.dispute_deadline_at is not None
                case JobState.COMPLETED:
                    assert (out, states[ReplicaState.REPORTED], states[ReplicaState.ACCEPTED] > 0) == (0, 0, True)
                case JobState.FAILED | JobState.CANCELLED:
                    assert (out, states[ReplicaState.REPORTED], states[ReplicaState.ACCEPTED]) == (0, 0, 0)
            if job.state in JOB_OPEN:
                assert out + states[ReplicaState.REPORTED] >= job.quorum or job.spot_chosen

    # --- how it is done ---

    def _claim(self, node: Node) -> list[Replica]:
        return leases_claim(node=node, request_id=uuid.uuid4(), wanted=[Tier.CPU], free=FREE, wishes=Wishes(), now=timezone.now())

    def _receipt(self, which: int, **ended: str) -> None:
        """Of a lease that has no receipt yet, whatever became of it."""
        self._report(self._chosen(which, Replica.objects.filter(UNREPORTED)), **ended)

    def _report(self, replica: Replica, **ended: str) -> None:
        [key] = [key for node, key in self.hosts if node.pk == replica.node_id]
        self.sent[replica.pk] = submitted_of(replica, key, **ended)
        self._send(replica, self.sent[replica.pk])

    def _send(self, replica: Replica, submitted: SubmittedReceipt) -> None:
        [node] = [node for node, _ in self.hosts if node.pk == replica.node_id]
        [taken] = receipts_accept(node=node, submitted=[submitted], now=timezone.now())
        assert isinstance(taken, TakenReceipt), taken

    def _verify(self, *, later: timedelta = timedelta(0)) -> int:
        """As the dispatcher and its workers do; how many jobs there were."""
        batches = claims.batches_claim(now=timezone.now() + later)
        for batch in batches:
            jobs_check(job_ids=batch.job_ids)
            jobs_settle(job_ids=batch.job_ids)
        return sum(len(batch.job_ids) for batch in batches)

    def _conclude_everything(self) -> None:
        """By what the portal does in time, and hosts if they stay, but no person: no job stays open, nothing stays in escrow."""
        with suppress(ActPointlessError):  # it was never closed
            breaker_open(image_name=f"{IMAGE_NAME}:1.0", by=self.moderator, reason="Mended.")
        is_over = False
        while not is_over:
            is_over = not self._verify(later=timedelta(days=1))
            live = list(Replica.objects.filter(LIVE))
            if self.hosts_stay:
                taken = [replica for node, _ in self.hosts for replica in self._claim(node)]
                for replica in (*live, *taken):
                    self._report(replica, result="honest")
                is_over = is_over and not (live or taken)
            elif live:
                is_over = not leases_reap(now=silence(max(live, key=lambda one: one.lease_expires_at or timezone.now())))
        long_after = timezone.now() + timedelta(days=1000)
        CoordinatorClock.objects.update(alive_at=long_after)
        queue_deadlines_enforce(now=long_after)
        disputes_rule(now=long_after)
        open_jobs = Job.objects.exclude(state__in=JOB_TERMINAL)
        assert not [(job.label, job.state, list(job.replicas.values_list("state", "verdict"))) for job in open_jobs]
        assert escrow_account().balance_micro == 0
        for check in (self.books_balance, self.each_accepted_replica_is_paid_once_and_nobody_else, self.jobs_are_as_their_replicas_say):
            check()
        assert Receipt.objects.count() == len(self.sent)
        assert set(Ruling.objects.values_list("job__state", flat=True)) <= {JobState.COMPLETED, JobState.FAILED}

    @staticmethod
    def _chosen(which: int, rows: Any) -> Any:
        found = list(rows.order_by("submitted_at" if rows.model is Job else "created_at", "pk"))
        return found[which % len(found)]

    @staticmethod
    def _states() -> list[Any]:
        replicas = Replica.objects.order_by("pk").values_list("pk", "state", "verdict", "paid_micro")
        return [*Job.objects.order_by("pk").values_list("pk", "state"), *replicas, Entry.objects.count(), Evidence.objects.count()]


@pytest.mark.django_db
@override_settings(NEXA_ATTEMPTS_MAX=4, NEXA_BREAKER_FAILURES=3)
def test_any_interleaving_keeps_the_books() -> None:
    run_state_machine_as_test(
        Portal, settings=settings(max_examples=5, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    )
