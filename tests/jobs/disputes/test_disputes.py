"""Rulings on disputes: who may give them, and what follows for replicas, credits and the job."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from django.db.models import Q
from django.test import Client
from django.urls import reverse

from jobs.answers import replica_of
from jobs.checking.codes import CHECK_IMPOSSIBLE, NOT_CHECKED
from jobs.errors import JobNotDisputedError, RulingForbiddenError, RulingInterestError, RulingInvalidError
from jobs.models import Evidence, Job, Receipt, Replica, Ruling
from jobs.selectors import replicas_of
from jobs.services.disputes import REASON_CHARACTERS_MAX, dispute_rule, disputes_rule, moderators
from jobs.services.settlement import job_settle
from jobs.states import JobState
from ledger.models import LogItem
from ledger.services import account_of
from people.models import User
from tests.factories.checking import job_check
from tests.factories.jobs import job_make
from tests.factories.people import moderator_make, token_header, user_make
from tests.factories.receipts import FILES, replica_report
from tests.jobs.gateway.simulated_host import body_of
from tests.jobs.verification.test_settlement import balance, books_check
from workers.protocol.digests import digest_of
from workers.protocol.dsse import PAYLOAD_TYPE_STATEMENT, envelope_sign
from workers.protocol.keys import PrivateKey
from workers.protocol.problems import ProblemError

pytestmark = pytest.mark.django_db


def results(*energies: int | None) -> list[dict[str, bytes] | None]:
    return [None if energy is None else {**FILES, "summary.json": f'{{"energy":{energy}}}'.encode()} for energy in energies]


def disputed_job(*energies: int | None, quorum: int = 3) -> tuple[Job, list[Replica]]:
    """A disputed job and its replicas, which reported these energies; None: an archive that is none."""
    job = job_make(verification={"method": "exact", "copies": len(energies), "quorum": quorum})
    Job.objects.filter(pk=job.pk).update(replicas_max=len(energies))
    replicas = [
        replica_report(job, archive_bytes=lambda _: b"none") if files is None else replica_report(job, files)
        for files in results(*energies)
    ]
    job_check(job_id=job.pk)
    job_settle(job_id=job.pk)
    job.refresh_from_db()
    assert job.state == JobState.DISPUTED
    return job, replicas


def permitted(user: User) -> User:
    User.objects.filter(pk=user.pk).update(is_staff=True)
    return User.objects.get(pk=user.pk)


def test_upholding_one_result_accepts_and_pays_it_and_those_that_agree_with_it() -> None:
    job, (odd, first, second, other) = disputed_job(1, 2, 2, 3)
    before = account_of(user=job.owner).balance_micro
    moderator = moderator_make()
    ruling = dispute_rule(job=job, by=moderator, canonical=second, reason="The other two ran on broken memory.")
    job.refresh_from_db()
    assert (job.state, job.canonical_replica_id) == (JobState.COMPLETED, second.pk)
    assert (ruling.by, ruling.canonical, ruling.reason) == (moderator, second, "The other two ran on broken memory.")
    found = {replica.pk: (replica.state, replica.verdict) for replica in job.replicas.all()}
    agree, disagree = ("accepted", "agree"), ("rejected", "disagree")
    assert found == {odd.pk: disagree, first.pk: agree, second.pk: agree, other.pk: disagree}
    assert balance(first) == balance(second) == 1000
    assert balance(odd) == balance(other) == 0
    assert account_of(user=job.owner).balance_micro == before + job.reserved_micro - 2000
    assert job.verdict_summary is not None
    assert (job.verdict_summary["agreeing"], job.verdict_summary["quorum"], job.verdict_summary["ruled"]) == (2, 3, True)
    books_check()


def test_agreement_is_pairwise_and_not_chained() -> None:
    job, (one, middle, other, _) = disputed_job(1, 2, 3, 4)
    for pair in ({one.pk, middle.pk}, {middle.pk, other.pk}):
        Evidence.objects.filter(check_name="comparison", replica__in=pair, other__in=pair).update(passed=True)
    dispute_rule(job=job, by=moderator_make(), canonical=one, reason="This one.")
    assert set(job.replicas.filter(state="accepted").values_list("pk", flat=True)) == {one.pk, middle.pk}


def test_upholding_none_fails_unpaid_and_refunds() -> None:
    job, replicas = disputed_job(1, 2, 3)
    before = account_of(user=job.owner).balance_micro
    ruling = dispute_rule(job=job, by=moderator_make(), canonical=None, reason="The program is not deterministic.")
    job.refresh_from_db()
    assert (job.state, job.failure_code) == (JobState.FAILED, "dispute_none_upheld")
    assert "The program is not deterministic." in job.failure_message
    assert ruling.canonical is None
    assert {replica.state for replica in job.replicas.all()} == {"rejected"}
    assert [balance(replica) for replica in replicas] == [0, 0, 0]
    assert account_of(user=job.owner).balance_micro == before + job.reserved_micro
    books_check()


def readable(user: User, replicas: list[Replica]) -> list[bool]:
    """Whether `user` may have the archive and the log of each."""
    blobs = [digest for replica in replicas for digest in (replica.receipt.archive_id, replica.receipt.log_id)]
    return [Client().get(f"/api/v1/blobs/{digest}", headers=token_header(user)).status_code == 200 for digest in blobs]


def digests_shown(job: Job) -> list[tuple[bool, bool, bool]]:
    """Of each replica, whether its owner is told where the archive and the log are, and how it compares."""
    shown = [replica_of(replica, job=job).result for replica in replicas_of(job=job)]
    return [(one.archive_digest is not None, one.log_digest is not None, bool(one.evidence)) for one in shown if one]


def logs_of_pages(job: Job, replicas: Sequence[Replica]) -> list[int]:
    """What the owner's browser is answered that asks for each replica's log, and for the page of what all logs tell."""
    owner = Client()
    owner.force_login(job.owner)
    paths = [reverse("job-evidence", args=[job.pk, replica.pk, "log.jsonl"]) for replica in replicas]
    return [owner.get(path).status_code for path in (*paths, reverse("job-runs", args=[job.pk]))]


@pytest.mark.parametrize("is_ruled", [True, False])
def test_results_that_nobody_was_paid_for_are_not_handed_out_but_how_they_differ_is(is_ruled: bool) -> None:
    job, replicas = disputed_job(1, 2, 3)
    if is_ruled:
        dispute_rule(job=job, by=moderator_make(), canonical=None, reason="The program is not deterministic.")
    else:
        disputes_rule(now=job.dispute_deadline_at)  # type: ignore[arg-type]  # a disputed job had one
    job.refresh_from_db()
    assert job.state == JobState.FAILED
    assert readable(job.owner, replicas) == [False] * 6
    assert digests_shown(job) == [(False, False, True)] * 3
    assert logs_of_pages(job, replicas) == [404] * 4
    moderator = Client()
    moderator.force_login(moderator_make())
    for replica in replicas:
        for name, digest in (("archive", replica.receipt.archive_id), ("log", replica.receipt.log_id)):
            answer = moderator.get(f"/admin/jobs/job/{job.pk}/dispute/{replica.pk}/{name}")
            assert digest_of(body_of(answer)) == digest


def test_rejected_results_beside_an_upheld_one_are_handed_out() -> None:
    job, replicas = disputed_job(1, 2, 3)
    dispute_rule(job=job, by=moderator_make(), canonical=replicas[0], reason="This one.")
    job.refresh_from_db()
    assert readable(job.owner, replicas) == [True] * 6
    assert digests_shown(job) == [(True, True, True)] * 3
    assert logs_of_pages(job, replicas) == [200] * 4


def test_a_job_is_ruled_on_once() -> None:
    job, (first, *_) = disputed_job(1, 2, 3)
    dispute_rule(job=job, by=moderator_make(), canonical=first, reason="This one.")
    with pytest.raises(JobNotDisputedError, match="completed"):
        dispute_rule(job=job, by=moderator_make(), canonical=None, reason="No, none.")
    assert disputes_rule(now=job.dispute_deadline_at) == 0  # type: ignore[arg-type]  # a disputed job had one
    assert Ruling.objects.count() == 1
    books_check()


def test_an_open_job_is_not_ruled_on() -> None:
    with pytest.raises(JobNotDisputedError, match="queued"):
        dispute_rule(job=job_make(), by=moderator_make(), canonical=None, reason="Early.")


def test_the_default_ruling_is_on_record_and_by_nobody() -> None:
    job, _ = disputed_job(1, 2, 3)
    assert job.dispute_deadline_at is not None
    assert disputes_rule(now=job.dispute_deadline_at) == 1
    ruling = Ruling.objects.get(job=job)
    assert (ruling.by, ruling.canonical) == (None, None)
    assert "nobody ruled in time" in ruling.reason


def test_a_dispute_that_cannot_be_ruled_on_keeps_no_other_from_its_ruling(caplog: pytest.LogCaptureFixture) -> None:
    jobs = [disputed_job(1, 2, 3)[0] for _ in range(3)]
    Ruling.objects.create(job=jobs[0], reason="From nowhere: a second one can't be written.")
    assert disputes_rule(now=max(job.dispute_deadline_at for job in jobs if job.dispute_deadline_at)) == 2
    assert [Job.objects.get(pk=job.pk).state for job in jobs] == [JobState.DISPUTED, JobState.FAILED, JobState.FAILED]
    assert str(jobs[0].pk) in caplog.text
    books_check()


def test_what_could_not_be_compared_with_the_upheld_result_does_not_disagree() -> None:
    job, (upheld, uncompared, other) = disputed_job(1, 2, 3)
    pair = Evidence.objects.filter(check_name="comparison", replica__in=[upheld, uncompared], other__in=[upheld, uncompared])
    assert pair.update(code=CHECK_IMPOSSIBLE) == 1
    dispute_rule(job=job, by=moderator_make(), canonical=upheld, reason="This one.")
    found = {replica.pk: (replica.state, replica.verdict) for replica in job.replicas.all()}
    rejected = {uncompared.pk: ("rejected", "undecided"), other.pk: ("rejected", "disagree")}
    assert found == {upheld.pk: ("accepted", "agree"), **rejected}


def receipts_logged() -> dict[str, Any]:
    """The leaves of receipts, by replica."""
    leaves = [json.loads(bytes(item.data)) for item in LogItem.objects.filter(kind="receipt")]
    return {leaf["replica"]: leaf for leaf in leaves}


def signature_unchecked(replica: Replica, *, is_signed: bool) -> None:
    """The portal gave up on the check of its signature, which is the node's or not."""
    checks = Evidence.objects.filter(replica=replica, other=None)
    checks.update(passed=False, code=NOT_CHECKED)
    checks.filter(check_name="signature").update(code=CHECK_IMPOSSIBLE)
    Evidence.objects.exclude(other=None).filter(Q(replica=replica) | Q(other=replica)).delete()
    if not is_signed:
        envelope = envelope_sign(b"{}", PAYLOAD_TYPE_STATEMENT, PrivateKey.generate())
        Receipt.objects.filter(replica=replica).update(envelope=envelope)


def test_an_upheld_result_whose_signature_could_not_be_checked_is_logged_with_its_payment() -> None:
    job, (upheld, *_) = disputed_job(1, 2, 3)
    signature_unchecked(upheld, is_signed=True)
    dispute_rule(job=job, by=moderator_make(), canonical=upheld, reason="This one.")
    assert balance(upheld) > 0
    leaves = receipts_logged()
    assert len(leaves) == 3
    assert (leaves[str(upheld.pk)]["accepted"], leaves[str(upheld.pk)]["ruled"]) == (True, True)
    books_check()


def test_a_result_that_the_key_of_its_node_did_not_sign_is_not_upheld_though_nobody_could_check_it() -> None:
    job, (unsigned, other, _) = disputed_job(1, 2, 3)
    signature_unchecked(unsigned, is_signed=False)
    with pytest.raises(RulingInvalidError, match="not signed by the key of its node"):
        dispute_rule(job=job, by=moderator_make(), canonical=unsigned, reason="This one.")
    _nothing_changed(job)
    dispute_rule(job=job, by=moderator_make(), canonical=other, reason="That one.")
    assert len(receipts_logged()) == 2
    assert str(unsigned.pk) not in receipts_logged()


@pytest.mark.parametrize("by_moderator", [True, False])
def test_the_log_says_of_each_receipt_whether_a_moderator_decided(by_moderator: bool) -> None:
    job, replicas = disputed_job(1, 2, 3)
    assert job.dispute_deadline_at is not None
    if by_moderator:
        dispute_rule(job=job, by=moderator_make(), canonical=None, reason="None of them.")
    else:
        disputes_rule(now=job.dispute_deadline_at)
    leaves = [json.loads(bytes(item.data)) for item in LogItem.objects.filter(kind="receipt")]
    assert {leaf["replica"] for leaf in leaves} == {str(replica.pk) for replica in replicas}
    assert [leaf.get("ruled", False) for leaf in leaves] == [by_moderator] * 3


def _nothing_changed(job: Job) -> None:
    job.refresh_from_db()
    assert job.state == JobState.DISPUTED
    assert not Ruling.objects.exists()
    assert set(job.replicas.values_list("state", flat=True)) == {"reported"}


def _owner(job: Job, replicas: list[Replica]) -> User:
    return permitted(job.owner)


def _host(job: Job, replicas: list[Replica]) -> User:
    assert replicas[2].node_owner is not None
    return permitted(replicas[2].node_owner)


def _stranger(job: Job, replicas: list[Replica]) -> User:
    return user_make()


def _inactive(job: Job, replicas: list[Replica]) -> User:
    return permitted(user_make(is_active=False))


@pytest.mark.parametrize(
    ("who", "error"),
    [
        (_owner, RulingInterestError),
        (_host, RulingInterestError),
        (_stranger, RulingForbiddenError),
        (_inactive, RulingForbiddenError),
    ],
)
def test_who_may_not_rule(who: Any, error: type[ProblemError]) -> None:
    job, replicas = disputed_job(1, 2, 3)
    with pytest.raises(error):
        dispute_rule(job=job, by=who(job, replicas), canonical=replicas[0], reason="Mine.")
    _nothing_changed(job)


@pytest.mark.parametrize("reason", ["", "  \n", "x" * (REASON_CHARACTERS_MAX + 1)])
def test_a_ruling_has_a_reason(reason: str) -> None:
    job, (first, *_) = disputed_job(1, 2, 3)
    with pytest.raises(RulingInvalidError, match="reason"):
        dispute_rule(job=job, by=moderator_make(), canonical=first, reason=reason)
    _nothing_changed(job)


def test_an_invalid_result_and_one_of_another_job_are_not_upheld() -> None:
    job, (_, _, invalid) = disputed_job(1, 2, None, quorum=2)
    other = disputed_job(1, 2, 3)[1][0]
    for replica in (invalid, other):
        with pytest.raises(RulingInvalidError, match="own checks"):
            dispute_rule(job=job, by=moderator_make(), canonical=replica, reason="This one.")
    _nothing_changed(job)


def test_an_invalid_result_stays_invalid_under_a_ruling() -> None:
    job, (first, _, invalid) = disputed_job(1, 2, None, quorum=2)
    dispute_rule(job=job, by=moderator_make(), canonical=first, reason="This one.")
    invalid.refresh_from_db()
    assert (invalid.state, invalid.verdict, invalid.paid_micro) == ("rejected", "invalid", 0)


def test_moderators_are_active_staff() -> None:
    one, other = moderator_make(), permitted(user_make())
    user_make()
    user_make(is_staff=True, is_active=False)
    assert set(moderators()) == {one, other}
