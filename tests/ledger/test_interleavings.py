"""Any interleaving of what happens to jobs and credits keeps the books: a machine that draws the next happening."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from ledger.checkpoints import checkpoint_publish
from ledger.models import Account, Entry, EntryKind, PendingItem, Posting
from ledger.movements import CreditsInsufficientError, movements_post
from ledger.services import (
    EntryNotReversibleError,
    escrow_account,
    grant_post,
    payment_of,
    refund_of,
    reservation_of,
    reversal_post,
    transfer_post,
    treasury_account,
)
from tests.factories.ledger import account_make, payment_make

PEOPLE = 3
people = st.integers(0, PEOPLE - 1)


@dataclass
class OpenJob:
    """A job that holds its reservation; a disputed one does until a ruling."""

    owner: Account
    reserved: int
    id: uuid.UUID = field(default_factory=uuid.uuid4)


class Books(RuleBasedStateMachine):
    """Researchers and contributors are the same few people, so that credits go in circles."""

    jobs = Bundle("jobs")
    disputed = Bundle("disputed")

    def __init__(self) -> None:
        super().__init__()
        self._atomic = transaction.atomic()
        self._atomic._from_testcase = True  # type: ignore[attr-defined]  # as Django's own: a checkpoint wants no other block around it
        self._atomic.__enter__()
        django_settings.NEXA_LOG_ROOT = django_settings.NEXA_LOG_ROOT.parent / uuid.uuid4().hex  # of this example's database
        self.granted = 0
        self.held: dict[uuid.UUID, int] = {}

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self._atomic.__exit__(None, None, None)

    @initialize()
    def begin(self) -> None:
        self.people = [account_make(20) for _ in range(PEOPLE)]
        self.granted = 20 * PEOPLE

    @rule(target=jobs, owner=people, amounts=st.lists(st.integers(1, 12), min_size=1, max_size=4))
    def submit(self, owner: int, amounts: list[int]) -> Any:
        """An array: all of its jobs or none."""
        jobs = [OpenJob(self.people[owner], amount) for amount in amounts]
        before = self._balance(self.people[owner])
        try:
            movements_post([reservation_of(account=job.owner, job_id=job.id, amount_micro=job.reserved) for job in jobs])
        except CreditsInsufficientError:
            assert sum(amounts) > before
            return multiple()
        assert self._balance(self.people[owner]) == before - sum(amounts)
        self.held |= {job.id: job.reserved for job in jobs}
        return multiple(*jobs)

    @rule(job=consumes(jobs), nodes=st.lists(people, min_size=1, max_size=3), percent=st.integers(0, 100), again=st.booleans())
    def conclude(self, job: OpenJob, nodes: list[int], percent: int, again: bool) -> None:
        """Each accepted replica is paid, the rest goes back; twice, if two workers settle at once."""
        each = job.reserved * percent // 100 // len(nodes)
        payments = [payment_make(self.people[node], each) for node in nodes if each]
        movements = [payment_of(job_id=job.id, payment=payment, formula={"version": "1"}) for payment in payments]
        refund = refund_of(account=job.owner, job_id=job.id, amount_micro=job.reserved - each * len(payments))
        for _ in range(1 + again):
            movements_post([*movements, *([refund] if refund else [])])
        del self.held[job.id]

    @rule(job=consumes(jobs))
    def cancel(self, job: OpenJob) -> None:
        self._give_back(job)

    @rule(target=disputed, job=consumes(jobs))
    def dispute(self, job: OpenJob) -> OpenJob:
        return job

    @rule(job=consumes(disputed), node=people, in_favour=st.booleans())
    def ruling(self, job: OpenJob, node: int, in_favour: bool) -> None:
        if in_favour:
            movements_post([payment_of(job_id=job.id, payment=payment_make(self.people[node], job.reserved), formula={})])
            del self.held[job.id]
        else:
            self._give_back(job)

    @rule(to=people, amount=st.integers(1, 30))
    def grant(self, to: int, amount: int) -> None:
        grant_post(to=self.people[to], amount_micro=amount, reason="thanks", idempotency_key=str(uuid.uuid4()))
        self.granted += amount

    @rule(sides=st.permutations(range(PEOPLE)), amount=st.integers(1, 30), again=st.booleans())
    def give(self, sides: list[int], amount: int, again: bool) -> None:
        source, target, *_ = sides
        number, before = uuid.uuid4(), self._balance(self.people[source])
        for _ in range(1 + again):
            with suppress(CreditsInsufficientError):
                transfer_post(source=self.people[source], target=self.people[target], amount_micro=amount, transfer_id=number)
        assert self._balance(self.people[source]) == (before - amount if amount <= before else before)

    @rule(which=st.integers(0, 10**6))
    def reverse(self, which: int) -> None:
        """Any entry, also one that can't be reversed, or was already."""
        entries = Entry.objects.order_by("pk")
        entry = entries[which % entries.count()]
        before = self._balance(treasury_account())
        with suppress(EntryNotReversibleError, CreditsInsufficientError):
            reversal_post(entry=entry, reason="mistake")
        if entry.kind == EntryKind.GRANT:
            self.granted -= self._balance(treasury_account()) - before

    @rule()
    def checkpoint(self) -> None:
        checkpoint_publish()
        assert not PendingItem.objects.exists()

    @invariant()
    def books_balance(self) -> None:
        assert sum(Posting.objects.values_list("amount_micro", flat=True)) == 0
        balances = {account: account.balance_micro for account in Account.objects.all()}
        treasury = balances.pop(treasury_account())
        assert -treasury == self.granted == sum(balances.values())
        assert all(balance >= 0 for balance in balances.values())
        assert balances[escrow_account()] == sum(self.held.values())
        for account, balance in balances.items():
            assert balance == sum(account.postings.values_list("amount_micro", flat=True))
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")

    def _give_back(self, job: OpenJob) -> None:
        refund = refund_of(account=job.owner, job_id=job.id, amount_micro=job.reserved)
        assert refund is not None
        movements_post([refund])
        del self.held[job.id]

    @staticmethod
    def _balance(account: Account) -> int:
        return Account.objects.get(pk=account.pk).balance_micro


@pytest.mark.django_db
class TestBooks(Books.TestCase):  # type: ignore[misc, valid-type]  # hypothesis makes the class
    settings = settings(max_examples=15, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
