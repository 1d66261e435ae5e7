"""What is left to do of one job while children come and go. Pure, and no input or output.

1. A piece is done when its end was said, and given up when nothing more can be said of it.
2. A child that dies leaves the piece in hand: the one that it had marked, else the first that is not done. It is tried once more, alone, in
   a fresh child. If that dies too, the check that it was in says how (`check_exceeded`, `check_crashed`), and the job goes on without it.
3. A pair is left out when one of its two has not passed its own checks.
4. A piece that a child calls done without having said all of it counts as not made: else its job would be asked for again, for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from jobs.checking.codes import CHECK_CRASHED, CHECK_EXCEEDED
from jobs.checking.documents import COMPARISON, OWN_CHECKS, Finding, JobDocument, Outcome, Unmade, failure_findings
from jobs.checking.endings import Ending
from jobs.checking.wire import LineRefusedError, Said


class JobPieces:
    """The pieces of one document, what has been said of each, and which of them a child was asked for."""

    def __init__(self, document: JobDocument) -> None:
        """Of `document` only the ids, sizes and pairs matter here; its blobs may be left out."""
        self.document = document
        self._pieces = document.pieces()
        self._said: dict[int, list[Outcome]] = {number: [] for number in range(len(self._pieces))}
        self._done: set[int] = set()
        self._suspect: int | None = None
        self.asked: list[int] = []
        """Numbers of the pieces that the present child still has to make, in order: the first is in hand."""

    @property
    def alone(self) -> bool:
        """Whether the next child is to be given one piece of this job and nothing else: the one that a child died of."""
        return self._suspect is not None

    def ask(self) -> list[int]:
        """Numbers of the pieces for the next child: the suspect alone, or all that are left. Empty: the job is done."""
        self.asked = [self._suspect] if self._suspect is not None else self._left()
        return list(self.asked)

    def said(self, said: Said) -> list[Outcome]:
        """Takes in what a child said of a piece. Returns the outcomes that are news. Raises LineRefusedError."""
        number = said.piece
        if self.asked[:1] != [number]:
            raise LineRefusedError(f"expected a word of the pieces {self.asked}, in this order; found one of {number}")
        known = self._said[number]
        names = {one.check_name for one in known}
        ids = self._ids(number)
        news = []
        for outcome in said.outcomes:
            self._fitting_check(ids, outcome)
            if outcome.check_name not in names:  # else the child before has said it, too
                names.add(outcome.check_name)
                news.append(outcome)
        if said.is_end and self._possible(number) and not _is_whole([*known, *news], ids):
            news.append(self._unmade(number, "child said nothing", [*known, *news]))
        known += news
        if said.is_end:
            self.asked.pop(0)
            self._done.add(number)
            self._suspect = None
        return news

    def died(self, ending: Ending, piece: int) -> list[Outcome]:
        """A child died with `piece` in hand, as it had marked. What is to be said of that piece: nothing, if it was the first time."""
        number = piece if piece in self.asked else self.asked[0]
        if self._suspect is None:
            self._suspect = number
            return []
        self._suspect = None
        self._done.add(number)
        found = self._given_up(number, ending)
        self._said[number] += found
        return found

    def all_unmade(self, error: str) -> list[Outcome]:
        """No child can be had: what is to be said of all that is left."""
        found: list[Outcome] = []
        self._suspect = None
        while left := self._left():
            number = left[0]
            self._done.add(number)
            made = self._unmade(number, error)
            self._said[number].append(made)
            found.append(made)
        return found

    def _given_up(self, number: int, ending: Ending) -> list[Outcome]:
        ids = self._ids(number)
        match ending:
            case Ending.MEMORY | Ending.TIME:
                code = CHECK_EXCEEDED
                message = f"The check took more {ending.value} than it may, twice."
            case Ending.CRASHED:
                code = CHECK_CRASHED
                message = "The program that reads it broke off in the middle, twice."
            case Ending.ENDED | Ending.KILLED | Ending.LATE | Ending.FAULT:  # not of its own doing
                return [self._unmade(number, f"child {ending.value}")]
        detail = {"message": message, "limit": ending.value, "worst": None}
        if len(ids) == 2:
            return [Finding(ids[0], COMPARISON, passed=False, code=code, detail=detail, other_id=ids[1])]
        return list(failure_findings(ids[0], self._check_in_hand(number), code=code, message=message))

    def _left(self) -> list[int]:
        return [number for number in range(len(self._pieces)) if number not in self._done and self._possible(number)]

    def _unmade(self, number: int, error: str, known: Sequence[Outcome] | None = None) -> Unmade:
        ids = self._ids(number)
        if len(ids) == 2:
            return Unmade(ids[0], COMPARISON, error, other_id=ids[1])
        return Unmade(ids[0], self._check_in_hand(number, known), error)

    def _check_in_hand(self, number: int, said: Sequence[Outcome] | None = None) -> str:
        known = {one.check_name for one in (self._said[number] if said is None else said)}
        return next((name for name in OWN_CHECKS if name not in known), OWN_CHECKS[-1])

    @staticmethod
    def _fitting_check(ids: Sequence[str], outcome: Outcome) -> None:
        names = OWN_CHECKS if len(ids) == 1 else (COMPARISON,)
        if (outcome.replica_id, outcome.other_id) != (ids[0], ids[1] if len(ids) == 2 else None) or outcome.check_name not in names:
            raise LineRefusedError(f"expected a check of {ids}; found {outcome.check_name[:40]!r} of {outcome.replica_id[:40]!r}")

    def _possible(self, number: int) -> bool:
        piece = self._pieces[number]
        return len(piece) == 1 or all(self._passed(place) for place in piece)

    def _passed(self, place: int) -> bool:
        """Whether the replica has passed, or may still pass, its own checks."""
        if self.document.replicas[place].passed:
            return True
        number = self._pieces.index((place,))
        if number not in self._done:
            return True
        findings = [one for one in self._said[number] if isinstance(one, Finding) and one.passed]
        return len(findings) == len(OWN_CHECKS)

    def _ids(self, number: int) -> list[str]:
        return [self.document.replicas[place].replica_id for place in self._pieces[number]]


def _is_whole(said: Sequence[Outcome], ids: Sequence[str]) -> bool:
    """Whether this is all that is to be said of a piece: each of its checks, or that one of them was not made."""
    names = OWN_CHECKS if len(ids) == 1 else (COMPARISON,)
    return any(isinstance(one, Unmade) for one in said) or {one.check_name for one in said} == set(names)
