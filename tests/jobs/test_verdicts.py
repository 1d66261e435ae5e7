"""The rule of verdicts: a table of cases, and what holds in all of them."""

from __future__ import annotations

from itertools import combinations
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.verdicts import AskForMore, CheckedReplica, Conclude, Decision, Dispute, NoValidResult, Verdict, Wait, decide, pair

A, B, C, D = (UUID(int=number) for number in range(1, 5))
NAMES = {A: "A", B: "B", C: "C", D: "D"}


def decided(
    valid: str, agree: str = "", *, differ: str = "", impossible: str = "", quorum: int, outstanding: int = 0, may_ask: int = 0
) -> Decision:
    """`valid`: a letter a replica, oldest receipt first: `A` valid, `a` invalid, `A?` not checked yet, `A!` never.

    `agree`, `differ`, `impossible`: pairs as `AB AC`.
    """
    ids = {name: one for one, name in NAMES.items()}
    replicas = []
    for token in valid.split():
        state = None if token[-1] in "?!" else token.isupper()
        replicas.append(CheckedReplica(ids[token[0].upper()], state, unchecked=token.endswith("!")))
    agreements: dict[frozenset[UUID], bool | None] = {pair(ids[two[0]], ids[two[1]]): True for two in agree.split()}
    agreements |= {pair(ids[two[0]], ids[two[1]]): False for two in differ.split()}
    agreements |= {pair(ids[two[0]], ids[two[1]]): None for two in impossible.split()}
    return decide(replicas=replicas, agreements=agreements, quorum=quorum, outstanding=outstanding, may_ask=may_ask)


def shown(decision: Decision) -> str:
    """A decision as the table writes it: verdicts are + agree, - disagree, x invalid, ? undecided."""
    marks = {Verdict.AGREE: "+", Verdict.DISAGREE: "-", Verdict.INVALID: "x", Verdict.UNDECIDED: "?"}
    verdicts = " ".join(NAMES[one] + marks[verdict] for one, verdict in sorted(decision.verdicts.items()))
    match decision:
        case Conclude(canonical=canonical):
            return f"conclude {NAMES[canonical]}: {verdicts}"
        case AskForMore(count=count):
            return f"ask {count}: {verdicts}"
        case Wait(checks_missing=missing):
            return f"wait{' for checks' if missing else ''}: {verdicts}"
        case Dispute():
            return f"dispute: {verdicts}"
        case NoValidResult():
            return f"no valid result: {verdicts}"


CASES: list[tuple[Decision, str]] = [
    (decided("A", quorum=1), "conclude A: A+"),
    (decided("a", quorum=1, may_ask=1), "ask 1: Ax"),
    (decided("a", quorum=1), "no valid result: Ax"),
    (decided("A", quorum=2, outstanding=1), "wait: A?"),
    (decided("A B", "AB", quorum=2), "conclude A: A+ B+"),
    (decided("B A", "AB", quorum=2), "conclude B: A+ B+"),
    (decided("A B", differ="AB", quorum=2, may_ask=2), "ask 1: A? B?"),
    (decided("A B", differ="AB", quorum=2, outstanding=1), "wait: A? B?"),
    (decided("A B", differ="AB", quorum=2), "dispute: A? B?"),
    (decided("A b", quorum=2, may_ask=2), "ask 1: A? Bx"),
    (decided("a b", quorum=2, may_ask=2), "ask 2: Ax Bx"),
    (decided("a b", quorum=2, may_ask=1), "no valid result: Ax Bx"),
    (decided("a b", quorum=2, outstanding=2), "wait: Ax Bx"),
    (decided("a b", quorum=2, outstanding=1), "wait: Ax Bx"),
    (decided("A B C", "AC", differ="AB BC", quorum=2), "conclude A: A+ B- C+"),
    (decided("A B C", "BC", differ="AB AC", quorum=2), "conclude B: A- B+ C+"),
    # Tolerance is not transitive: B agrees with both, A and C do not agree with each other.
    (decided("A B C", "AB BC", differ="AC", quorum=3, may_ask=1), "conclude B: A+ B+ C+"),
    (decided("A B C", "AB BC", differ="AC", quorum=2), "conclude A: A+ B+ C-"),
    # What the portal could not check is nobody's fault.
    (decided("A!", quorum=1, may_ask=1), "ask 1: A?"),
    (decided("A!", quorum=1), "dispute: A?"),
    (decided("A! b", quorum=1), "dispute: A? Bx"),
    (decided("A! B C", "BC", quorum=2), "conclude B: A? B+ C+"),
    (decided("A B C", "AB", impossible="AC BC", quorum=2), "conclude A: A+ B+ C?"),
    (decided("A B", impossible="AB", quorum=2, may_ask=1), "ask 1: A? B?"),
    (decided("A B", impossible="AB", quorum=2), "dispute: A? B?"),
    # Nothing is decided over the head of a replica whose checks or comparisons are missing.
    (decided("A B C?", "AB", quorum=2), "wait for checks: A+ B+ C?".replace("+", "?")),
    (decided("A B C", "AB", quorum=2), "wait for checks: A? B? C?"),
    (decided("A? b", quorum=1, may_ask=5), "wait for checks: A? Bx"),
    (decided("A B C D", "AB CD", differ="AC AD BC BD", quorum=3, may_ask=1), "ask 1: A? B? C? D?"),
    (decided("A B C D", "AB CD", differ="AC AD BC BD", quorum=3), "dispute: A? B? C? D?"),
    (decided("", quorum=2, may_ask=2), "ask 2: "),
]


@pytest.mark.parametrize(("decision", "expected"), CASES, ids=[expected for _, expected in CASES])
def test_case(decision: Decision, expected: str) -> None:
    assert shown(decision) == expected


IDS = [UUID(int=number) for number in range(1, 7)]


@st.composite
def situations(draw: st.DrawFn, *, checked: bool = False) -> dict[str, object]:
    valid = st.booleans() if checked else st.sampled_from([True, True, True, False, None])
    replicas = [CheckedReplica(one, draw(valid)) for one in draw(st.permutations(IDS))[: draw(st.integers(0, 6))]]
    agreements = {}
    for one, other in combinations([r.replica_id for r in replicas], 2):
        if checked or draw(st.integers(0, 9)):
            agreements[pair(one, other)] = draw(st.booleans())
    return {
        "replicas": replicas,
        "agreements": agreements,
        "quorum": draw(st.integers(1, 4)),
        "outstanding": draw(st.integers(0, 3)),
        "may_ask": draw(st.integers(0, 4)),
    }


def run(situation: dict[str, object]) -> Decision:
    return decide(**situation)  # type: ignore[arg-type]


@given(situation=situations())
def test_conclusion_needs_a_quorum_of_valid_replicas_that_agree_with_the_canonical_one(situation: dict[str, object]) -> None:
    decision = run(situation)
    replicas: list[CheckedReplica] = situation["replicas"]  # type: ignore[assignment]
    assert set(decision.verdicts) == {r.replica_id for r in replicas}
    for replica in replicas:
        assert (decision.verdicts[replica.replica_id] == Verdict.INVALID) == (replica.valid is False)
    if isinstance(decision, Conclude):
        agreeing = [one for one, verdict in decision.verdicts.items() if verdict == Verdict.AGREE]
        assert decision.canonical in agreeing
        assert len(agreeing) >= situation["quorum"]  # type: ignore[operator]
        agreements: dict[frozenset[UUID], bool] = situation["agreements"]  # type: ignore[assignment]
        assert all(agreements[pair(decision.canonical, one)] for one in agreeing if one != decision.canonical)
        assert Verdict.UNDECIDED not in decision.verdicts.values()
    else:
        assert set(decision.verdicts.values()) <= {Verdict.INVALID, Verdict.UNDECIDED}


@given(situation=situations(), random=st.randoms(use_true_random=False))
def test_order_of_receipts_decides_who_is_canonical_and_nothing_about_whether(situation: dict[str, object], random: object) -> None:
    shuffled = list(situation["replicas"])  # type: ignore[call-overload]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = run(situation), run({**situation, "replicas": shuffled})
    assert type(one) is type(other)
    if not isinstance(one, Conclude):
        assert one == other


@given(situation=situations())
def test_missing_checks_are_waited_for_and_only_they_are_called_missing(situation: dict[str, object]) -> None:
    decision = run(situation)
    replicas: list[CheckedReplica] = situation["replicas"]  # type: ignore[assignment]
    valid = [r.replica_id for r in replicas if r.valid]
    missing = any(r.valid is None for r in replicas) or any(pair(*two) not in situation["agreements"] for two in combinations(valid, 2))  # type: ignore[operator]
    assert missing == (isinstance(decision, Wait) and decision.checks_missing)


@given(situation=situations(checked=True))
def test_when_nothing_is_out_the_job_moves_and_never_beyond_its_cap(situation: dict[str, object]) -> None:
    decision = run({**situation, "outstanding": 0})
    assert not isinstance(decision, Wait)
    if isinstance(decision, AskForMore):
        assert 1 <= decision.count <= situation["may_ask"]  # type: ignore[operator]


@given(
    quorum=st.integers(1, 4), cap=st.integers(1, 8), answers=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), min_size=8, max_size=8)
)
def test_job_ends_however_replicas_answer(quorum: int, cap: int, answers: list[tuple[bool, int]]) -> None:
    """Each replica that is asked for answers with one of four results, or invalidly; results agree when they are equal."""
    replicas: list[CheckedReplica] = []
    results: dict[UUID, int] = {}
    outstanding = min(quorum, cap)
    for _ in range(cap + 1):
        agreements = {pair(one, other): results[one] == results[other] for one, other in combinations(results, 2)}
        may_ask = cap - len(replicas) - outstanding
        decision = decide(replicas=replicas, agreements=agreements, quorum=quorum, outstanding=outstanding, may_ask=may_ask)
        if isinstance(decision, Conclude | Dispute | NoValidResult):
            return
        if isinstance(decision, AskForMore):
            outstanding += decision.count
        assert outstanding > 0
        outstanding -= 1
        valid, result = answers[len(replicas)]
        one = UUID(int=len(replicas) + 1)
        replicas.append(CheckedReplica(one, valid))
        if valid:
            results[one] = result
    pytest.fail("the job asked for more than its cap")
