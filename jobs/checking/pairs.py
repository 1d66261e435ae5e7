"""Everything that is checked of one job, in order: each replica alone, then each pair that passed, by the job's own rules. Pure.

An archive is read once for all of this: what its check saw, the comparisons use, and compared files are read where they lie in it.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobs.checking.checks import ReadArchive, ReplicaCheck, archive_read, unmade
from jobs.checking.codes import RESULTS_DIFFER
from jobs.checking.documents import COMPARISON, OWN_CHECKS, BlobAwayError, Finding, JobDocument, Outcome
from jobs.comparison import FILE_BYTES_MAX, FileUnreadableError, results_compare
from jobs.descriptor import Descriptor


class JobCheck:
    """The pieces of one document, to be made one after the other."""

    def __init__(self, document: JobDocument) -> None:
        self._document = document
        self._descriptor: Descriptor | None = None
        self._archives: dict[int, ReadArchive] = {}
        self._failed: set[int] = set()

    def outcomes(self, piece: tuple[int, ...]) -> Iterator[Outcome]:
        """The checks of one of the document's pieces, as they are made; none for a pair of which one has just failed its own.

        Of those that were not made here, another child has made them, and they passed: else nobody would ask for the pair.
        """
        match piece:
            case (place,):
                yield from self._replica_outcomes(place)
            case (one, other) if not {one, other} & self._failed:
                yield self._pair_outcome(one, other)

    def _replica_outcomes(self, place: int) -> Iterator[Outcome]:
        replica = self._document.replicas[place]
        self._failed.add(place)
        try:
            check = ReplicaCheck(self._job(), replica)
        except MemoryError:
            raise
        except Exception as error:
            yield unmade(replica.replica_id, OWN_CHECKS[0], error)
            return
        passed = 0
        for outcome in check.outcomes():
            passed += isinstance(outcome, Finding) and outcome.passed
            yield outcome
        if passed == len(OWN_CHECKS):
            self._failed.discard(place)
            self._archives[place] = check.archive

    def _pair_outcome(self, one: int, other: int) -> Outcome:
        ids = [self._document.replicas[place].replica_id for place in (one, other)]
        try:
            descriptor = self._job()
            sides = (self._archive(one), self._archive(other))
        except MemoryError:
            raise
        except Exception as error:  # they were read before: a row, or the store, is wrong
            return unmade(ids[0], COMPARISON, error, other_id=ids[1])
        try:
            comparison = results_compare(
                descriptor=descriptor,
                manifests=(sides[0].manifest, sides[1].manifest),
                read=lambda side, path: sides[side].read(path, limit_bytes=FILE_BYTES_MAX + 1),  # enough to say that it is too large
            )
        except FileUnreadableError as error:
            detail = {"message": str(error)[:1000], "worst": None}
            return Finding(ids[0], COMPARISON, passed=False, code=error.code, detail=detail, other_id=ids[1])
        except MemoryError:
            raise
        except (BlobAwayError, OSError) as error:
            return unmade(ids[0], COMPARISON, error, other_id=ids[1])
        except Exception as error:
            return unmade(ids[0], COMPARISON, error, other_id=ids[1], by_bytes=True)
        code = "" if comparison.agree else RESULTS_DIFFER
        return Finding(ids[0], COMPARISON, passed=comparison.agree, code=code, detail=comparison.document(), other_id=ids[1])

    def _job(self) -> Descriptor:
        if self._descriptor is None:
            self._descriptor = Descriptor.model_validate_json(self._document.descriptor)
        return self._descriptor

    def _archive(self, place: int) -> ReadArchive:
        """Read now where its check was made before, perhaps by another process."""
        if place not in self._archives:
            self._archives[place] = archive_read(self._job(), self._document.replicas[place])
        return self._archives[place]
