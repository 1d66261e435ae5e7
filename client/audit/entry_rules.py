"""What must be true of entries, one after the other, in the order of the log.

1. The postings of an entry sum to zero, from one account to one other. No account but the treasury is ever negative.
2. Grants come from the treasury, reservations go to the escrow; a person's account is neither. Transfers are from one person to another.
3. A job is reserved once. A payment goes from the escrow to the account of the node key that signed an accepted receipt of that job and
   replica, which the log holds before; each such receipt is paid once.
4. A payment is what the formula gives for the inputs that it records, no less and no more, or the recorded share of the reservation if
   that is less. Payments and refunds of a job never exceed its reservation.
5. A refund gives what is left to who reserved.

What needs the whole log (names used twice, reversals, quorum, shares, what is missing) is in client/audit/closing_rules.py.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from client.audit.books import AMOUNT_MAX, Books, JobBooks
from client.audit.findings import FindingCode
from client.audit.names import NAME_ENTRY, key_check, name_digest
from workers.protocol.leaves import ACCOUNT_ESCROW, ACCOUNT_TREASURY, EntryLeaf
from workers.protocol.pay import payment_micro

TREASURY: Final = ACCOUNT_TREASURY.hex
ESCROW: Final = ACCOUNT_ESCROW.hex

_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TRANSFER_KEY: Final = re.compile(f"transfer:{_UUID.pattern}:{_UUID.pattern}")
_MICRO: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_FLOAT_CHARACTERS_MAX: Final = 32
_payment_micro = lru_cache(1024)(payment_micro)
"""Jobs of one array have the same inputs."""


class _Move(NamedTuple):
    """What an entry does: an amount above 0 from one account to another, each 32 hexadecimal digits."""

    source: str
    target: str
    amount: int


class _EvidenceMalformedError(Exception):
    """What the evidence lacks, for the finding."""


def entry_check(books: Books, index: int, leaf: EntryLeaf) -> None:
    """Judges an entry and books it as it stands, wrong or not: what follows is judged by what the log says."""
    books.counts.entries += 1
    add = books.findings.add
    amounts = [(posting.account.hex, int(posting.amount_micro)) for posting in leaf.postings]
    entry = int(leaf.entry)
    if entry > AMOUNT_MAX or any(not -AMOUNT_MAX <= amount <= AMOUNT_MAX for _, amount in amounts):
        add(FindingCode.AMOUNT_IMPOSSIBLE, index, "It holds a number beyond 64 bits, which no coordinator's database has.")
        return
    if total := sum(amount for _, amount in amounts):
        add(FindingCode.POSTINGS_UNBALANCED, index, f"Entry {entry}: its postings sum to {total} instead of 0.")
    for account, amount in amounts:
        _balance_move(books, index, account, amount)
    books.names.append(name_digest(leaf.entry), NAME_ENTRY, index)
    sources = [(account, -amount) for account, amount in amounts if amount < 0]
    targets = [(account, amount) for account, amount in amounts if amount > 0]
    if len(amounts) != 2 or len(sources) != 1 or len(targets) != 1 or sources[0][0] == targets[0][0]:
        add(FindingCode.POSTINGS_WRONG, index, f"Entry {entry}: a {leaf.kind} moves an amount from one account to one other.")
        return
    move = _Move(sources[0][0], *targets[0])
    try:
        job = _kind_check(books, index, leaf, move)
    except _EvidenceMalformedError as error:
        add(FindingCode.EVIDENCE_MALFORMED, index, f"Entry {entry}: the evidence of a {leaf.kind} {error}.")
        job = None
    books.entries.append(entry, index, leaf.kind, *move, job)


def _kind_check(books: Books, index: int, leaf: EntryLeaf, move: _Move) -> str | None:
    """Judges by kind; returns the job that it is about."""
    match leaf.kind:
        case "grant":
            _text(leaf.evidence, "reason")
            if not leaf.key.startswith("grant:"):
                books.findings.add(FindingCode.KEY_WRONG, index, f"Expected a key that starts with 'grant:'; found {leaf.key!r}.")
            _accounts_expect(books, index, leaf, is_right=move.source == TREASURY and move.target != ESCROW)
            return None
        case "reservation":
            return _reservation_check(books, index, leaf, move)
        case "payment":
            return _payment_check(books, index, leaf, move)
        case "refund":
            return _refund_check(books, index, leaf, move)
        case "transfer":
            if _TRANSFER_KEY.fullmatch(leaf.key) is None or not leaf.key.startswith(f"transfer:{UUID(move.source)}:"):
                message = f"Expected the key 'transfer:{UUID(move.source)}:' and an id; found {leaf.key!r}."
                books.findings.add(FindingCode.KEY_WRONG, index, message)
            _accounts_expect(books, index, leaf, is_right=not {move.source, move.target} & {TREASURY, ESCROW})
            return None
        case "reversal":
            entry = _text(leaf.evidence, "entry")
            _text(leaf.evidence, "reason")
            if _MICRO.fullmatch(entry) is None or int(entry) > AMOUNT_MAX:
                raise _EvidenceMalformedError("names no entry that could be")
            key_check(books, index, leaf, f"reversal:{entry}")
            books.reversals.append(int(entry), index, *move)
            return None


def _reservation_check(books: Books, index: int, leaf: EntryLeaf, move: _Move) -> str:
    job_id = _uuid(leaf.evidence, "job")
    key_check(books, index, leaf, f"reservation:{job_id}")
    _accounts_expect(books, index, leaf, is_right=move.source != TREASURY and move.target == ESCROW)
    job = books.job(job_id)
    if job.reserver is not None:
        books.findings.add(FindingCode.RESERVATION_REPEATED, index, f"The job {job_id} was reserved before.")
    job.reserver, job.reserved = move.source, job.reserved + move.amount
    books.job_put(job_id, job)
    return job_id


def _payment_check(books: Books, index: int, leaf: EntryLeaf, move: _Move) -> str:
    books.counts.payments += 1
    books.counts.paid_micro += move.amount
    job_id, replica = _uuid(leaf.evidence, "job"), _uuid(leaf.evidence, "replica")
    digest, key_id = _text(leaf.evidence, "receipt"), _text(leaf.evidence, "node_key")
    key_check(books, index, leaf, f"payment:{replica}")
    _accounts_expect(books, index, leaf, is_right=move.source == ESCROW and move.target != TREASURY)
    job = books.job(job_id)
    _job_known(books, index, leaf, job, job_id)
    _receipt_expect(books, index, job, target=move.target, replica=replica, digest=digest, key_id=key_id)
    job.payments, job.payment_leaf, job.payment_at, job.paid = job.payments + 1, index, leaf.at.isoformat(), job.paid + move.amount
    _reservation_hold(books, index, job, job_id)
    try:
        _formula_check(books, index, leaf, job, move.amount)
    finally:
        books.job_put(job_id, job)
    return job_id


def _refund_check(books: Books, index: int, leaf: EntryLeaf, move: _Move) -> str:
    job_id = _uuid(leaf.evidence, "job")
    key_check(books, index, leaf, f"refund:{job_id}")
    job = books.job(job_id)
    _job_known(books, index, leaf, job, job_id)
    if job.reserver is not None and (move.source != ESCROW or move.target != job.reserver or move.amount != job.left):
        books.findings.add(
            FindingCode.REFUND_WRONG,
            index,
            f"The job {job_id} has {job.left} left for who reserved it; refunded are {move.amount}, from the escrow: "
            f"{_yes(move.source == ESCROW)}, to who reserved: {_yes(move.target == job.reserver)}.",
        )
    job.refunded, job.refund_leaf = job.refunded + move.amount, index
    _reservation_hold(books, index, job, job_id)
    books.job_put(job_id, job)
    return job_id


def _receipt_expect(books: Books, index: int, job: JobBooks, *, target: str, replica: str, digest: str, key_id: str) -> None:
    """That an accepted receipt earned the payment, and that its signer's account got it."""
    add = books.findings.add
    receipt = job.accepted.get(replica.replace("-", ""))
    if receipt is None or (receipt.digest, receipt.key_id) != (digest, key_id):
        found = "none" if receipt is None else f"{receipt.digest} of the key {receipt.key_id}"
        add(
            FindingCode.PAYMENT_WITHOUT_RECEIPT,
            index,
            f"It pays the receipt {digest[:80]} of the key {key_id[:80]} for the replica {replica}; accepted before it is {found}.",
        )
        return
    if receipt.account != target:
        add(
            FindingCode.PAYMENT_ACCOUNT_WRONG,
            index,
            f"The work of the key {key_id} is paid to the account {receipt.account}, not {target}.",
        )
    if receipt.paid:
        add(FindingCode.PAYMENT_REPEATED, index, f"The replica {replica} was paid before.")
    receipt.paid = True


def _formula_check(books: Books, index: int, leaf: EntryLeaf, job: JobBooks, amount: int) -> None:
    """That the amount follows from the recorded inputs, which are the same for all payments of a job. Raises _EvidenceMalformedError."""
    formula = leaf.evidence.get("formula")
    if not isinstance(formula, dict):
        raise _EvidenceMalformedError("has no formula")
    names = ("version", "estimated_flops", "calibration_ratio", "rate_micro")
    version, flops, ratio, rate = inputs = tuple(_text(formula, name) for name in names)
    share = _text(formula, "share_micro") if "share_micro" in formula else None
    is_read = all(_MICRO.fullmatch(number) for number in (rate, "0" if share is None else share))
    if version != "1" or not is_read or len(formula) != len(names) + (share is not None):
        raise _EvidenceMalformedError("has no formula of version 1")
    expected = _payment_micro(estimated_flops=_float(flops), calibration_ratio=_float(ratio), rate_micro=int(rate))
    if share is not None:
        expected = min(expected, int(share))
    if amount != expected:
        books.findings.add(FindingCode.PAYMENT_AMOUNT_WRONG, index, f"By its formula the payment is {expected}; {amount} were paid.")
    inputs = (*inputs, share or "")
    if job.formula and job.formula != inputs:
        books.findings.add(FindingCode.PAYMENT_AMOUNT_WRONG, index, "Another payment of this job has another formula.")
    job.formula = inputs


def _reservation_hold(books: Books, index: int, job: JobBooks, job_id: str) -> None:
    if job.reserver is not None and job.left < 0:
        message = f"The job {job_id} reserved {job.reserved}; paid and refunded are {job.paid + job.refunded}."
        books.findings.add(FindingCode.RESERVATION_EXCEEDED, index, message)


def _job_known(books: Books, index: int, leaf: EntryLeaf, job: JobBooks, job_id: str) -> None:
    if job.reserver is None:
        books.findings.add(FindingCode.JOB_UNRESERVED, index, f"A {leaf.kind} of the job {job_id}, for which nothing was reserved before.")


def _balance_move(books: Books, index: int, account: str, amount: int) -> None:
    key = bytes.fromhex(account)
    before = books.balances.get(key) or 0
    after = before + amount
    books.balances.put(key, after)
    if after < 0 <= before and account != TREASURY:
        books.findings.add(
            FindingCode.ACCOUNT_NEGATIVE, index, f"The account {UUID(account)} is at {after} now; only the treasury may be negative."
        )


def _accounts_expect(books: Books, index: int, leaf: EntryLeaf, *, is_right: bool) -> None:
    if not is_right:
        sides = {
            "grant": "treasury to a person",
            "reservation": "a person to the escrow",
            "payment": "the escrow to a contributor",
            "transfer": "one person to another",
        }
        books.findings.add(FindingCode.POSTINGS_WRONG, index, f"Entry {leaf.entry}: a {leaf.kind} goes from {sides[leaf.kind]}.")


def _text(members: dict[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise _EvidenceMalformedError(f"has no {name}")
    return value


def _uuid(members: dict[str, Any], name: str) -> str:
    """An id in its one spelling."""
    value = _text(members, name)
    if _UUID.fullmatch(value) is None:
        raise _EvidenceMalformedError(f"names no {name} by its id")
    return value


def _float(text: str) -> float:
    """A positive double in the shortest form that reads back as the same."""
    try:
        value = float(text) if len(text) <= _FLOAT_CHARACTERS_MAX else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf or repr(value) != text:
        raise _EvidenceMalformedError("has a formula with other numbers than doubles above 0 in their shortest form")
    return value


def _yes(value: bool) -> str:
    return "yes" if value else "no"
