"""What can only be judged when all leaves are known. Sorting and joining are SQLite's, on disk.

1. No key, entry number, replica or order of a receipt occurs twice.
2. A paid job has accepted receipts of as many accounts as its quorum asks for, unless it was ruled on; each payment's share is the
   reservation divided among its accepted receipts; when the job is closed, each of these is paid, and of a job with accepted receipts
   one at least. Where the share is less than a micro, nobody is paid.
3. What a job has left once it was judged is refunded, all of it where nothing was accepted: receipts, payments and refund are one
   transaction of the coordinator.
4. A reversal undoes one earlier grant (the treasury has it back) or payment (who reserved has it back), whole.
5. Each choice of `spot` jobs is what its key draws, as soon as that is published.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from client.audit.books import Books, JobBooks
from client.audit.findings import FindingCode
from client.audit.names import REPEATED
from client.audit.spot_rules import share_parse
from workers.protocol.digests import digest_of
from workers.protocol.leaves import spot_chosen

REFUND_WAIT: Final = timedelta(hours=1)
"""How much older than the newest leaf a payment or receipt must be before its refund is missed: a checkpoint may come between the two."""


def closing_check(books: Books) -> None:
    """Judges what was kept for the end."""
    books.flush()
    _names_check(books)
    for key, job in books.jobs.items():
        if job.payments:
            _paid_job_check(books, UUID(bytes=key), job)
            continue
        if job.accepted:
            _unpaid_job_check(books, UUID(bytes=key), job)
        if job.receipt_at and (not job.accepted or job.reserved < len(job.accepted) + job.refused):
            _unearned_job_check(books, UUID(bytes=key), job)
    _reversals_check(books)
    _spot_choices_check(books)


def _names_check(books: Books) -> None:
    repeated = "SELECT space, min(leaf), max(leaf), count(*) FROM names GROUP BY space, digest HAVING count(*) > 1 ORDER BY 3"
    for space, first, last, times in books.connection.execute(repeated):
        code, what = REPEATED[space]
        books.findings.add(code, last, f"{what} occurs {times} times, first in leaf {first}.")


def _paid_job_check(books: Books, job_id: UUID, job: JobBooks) -> None:
    add, leaf = books.findings.add, job.payment_leaf
    accounts = {receipt.account for receipt in job.accepted.values()}
    if job.quorum is not None and len(accounts) < job.quorum and not job.ruled:
        add(
            FindingCode.QUORUM_MISSED,
            leaf,
            f"The job {job_id} was paid with accepted receipts of {len(accounts)} accounts; its quorum is {job.quorum}.",
        )
    share = job.reserved // max(1, len(job.accepted) + job.refused)
    if job.formula and job.formula[-1] and job.reserver is not None and job.formula[-1] != str(share):
        message = f"Of the reservation of the job {job_id} each accepted receipt has a share of {share}; recorded is {job.formula[-1]}."
        add(FindingCode.SHARE_WRONG, leaf, message)
    unpaid = sum(not receipt.paid for receipt in job.accepted.values())
    is_closed = job.refund_leaf is not None or job.left <= 0
    if is_closed and unpaid and share:
        add(FindingCode.PAYMENT_MISSING, leaf, f"Of the accepted receipts of the job {job_id}, {unpaid} were not paid.")
    if not is_closed and books.newest_at - datetime.fromisoformat(job.payment_at) > REFUND_WAIT:
        add(FindingCode.REFUND_MISSING, leaf, f"The job {job_id} was paid and has {job.left} left, which nobody got back.")


def _unpaid_job_check(books: Books, job_id: UUID, job: JobBooks) -> None:
    """Receipts and payments of a job are one transaction of the coordinator."""
    is_late = books.newest_at - datetime.fromisoformat(job.accepted_at) > REFUND_WAIT
    share = job.reserved // max(1, len(job.accepted) + job.refused)
    if share and (job.refund_leaf is not None or is_late):
        message = f"The job {job_id} has {len(job.accepted)} accepted receipts, and none was paid."
        books.findings.add(FindingCode.PAYMENT_MISSING, job.accepted_leaf, message)


def _unearned_job_check(books: Books, job_id: UUID, job: JobBooks) -> None:
    """A job of which no receipt earned anything: none is an accepted one that is what it must be, or each one's share is nothing."""
    is_late = books.newest_at - datetime.fromisoformat(job.receipt_at) > REFUND_WAIT
    if job.refund_leaf is None and job.left > 0 and is_late:
        message = f"The job {job_id} was judged, nobody was paid, and it has {job.left} left, which nobody got back."
        books.findings.add(FindingCode.REFUND_MISSING, job.receipt_leaf, message)


def _reversals_check(books: Books) -> None:
    execute = books.connection.execute
    if execute("SELECT 1 FROM reversals LIMIT 1").fetchone() is None:
        return
    execute("CREATE INDEX entries_by_number ON entries (entry)")
    joined = (
        "SELECT r.leaf, r.entry, r.source, r.target, r.amount, e.leaf, e.kind, e.source, e.target, e.amount, e.job"
        " FROM reversals r LEFT JOIN entries e ON e.entry = r.entry AND e.leaf < r.leaf ORDER BY r.leaf"
    )
    for leaf, entry, source, target, amount, entry_leaf, kind, paid_from, paid_to, entry_amount, job in execute(joined):
        receiver = paid_from if kind == "grant" else books.job(job).reserver if kind == "payment" and job else None
        if entry_leaf is None:
            why = f"There is no entry {entry} before it."
        elif receiver is None:
            why = f"Entry {entry} is a {kind}; only grants, and payments of reserved jobs, are reversed."
        elif (source, target, amount) != (paid_to, receiver, entry_amount):
            why = f"Entry {entry} gave {entry_amount} to {UUID(paid_to)}; to reverse it, that amount goes from there to {UUID(receiver)}."
        else:
            continue
        books.findings.add(FindingCode.REVERSAL_WRONG, leaf, why)


def _spot_choices_check(books: Books) -> None:
    for spot_key, job, share_text, chosen, leaf in books.connection.execute("SELECT * FROM spot_choices ORDER BY rowid"):
        key = books.spot_keys.get(bytes.fromhex(spot_key))
        share = share_parse(share_text)
        if key is None or key.secret is None or share is None:
            books.counts.spot_choices_open += 1
            continue
        secret = bytes.fromhex(key.secret)
        if digest_of(secret) == key.commitment and spot_chosen(secret=secret, job_id=UUID(job), share=share) != bool(chosen):
            books.findings.add(
                FindingCode.SPOT_CHOICE_WRONG,
                leaf,
                f"The key {UUID(spot_key)} {'passes over' if chosen else 'chooses'} the job {UUID(job)}; the log says otherwise.",
            )
