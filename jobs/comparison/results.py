"""Comparison of two whole results by the rules of a descriptor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jobs.comparison.comparators import files_compare
from jobs.comparison.report import Comparison, FileReport, Tally
from jobs.comparison.rules import FileRule, Tolerance
from jobs.descriptor import ComparedFile, Descriptor, VerificationMethod
from jobs.descriptor.formats import FileFormat, format_of
from workers.protocol.messages.receipt import Manifest


def rules_of(descriptor: Descriptor, manifests: Sequence[Manifest]) -> tuple[list[FileRule], list[str]]:
    """(files compared by their values, files compared byte for byte). A descriptor without `files` compares every file of either result."""
    verification = descriptor.verification
    paths = [file.path for file in verification.files] or sorted({f.path for manifest in manifests for f in manifest.files})
    if verification.method == VerificationMethod.EXACT:
        return [], paths
    fallback = Tolerance(relative=descriptor.tolerance)
    if not verification.files:
        rules = [FileRule(path, kind, fallback) for path in paths if (kind := format_of(path)) is not None]
        return rules, [path for path in paths if format_of(path) is None]
    by_value = [file for file in verification.files if file.read_as is not FileFormat.BYTES]
    return [_rule(file, fallback) for file in by_value], [file.path for file in verification.files if file.read_as is FileFormat.BYTES]


def results_compare(*, descriptor: Descriptor, manifests: tuple[Manifest, Manifest], read: Callable[[int, str], bytes]) -> Comparison:
    """Whether two checked results agree. `read(0 or 1, path)` gives the bytes of a file that the manifest names.

    Raises FileUnreadableError for a file that both have and that can't be compared: that is a fault of the job's rules or program.
    """
    rules, exact = rules_of(descriptor, manifests)
    digests: tuple[Mapping[str, str], Mapping[str, str]] = (
        {file.path: file.digest for file in manifests[0].files},
        {file.path: file.digest for file in manifests[1].files},
    )
    reports: list[FileReport] = []
    identical = 0
    for rule in [*rules, *(FileRule(path, FileFormat.BYTES) for path in exact)]:
        found = [side.get(rule.path) for side in digests]
        if found[0] == found[1] and not (rule.refuses_nan and found[0]):
            identical += found[0] is not None  # in neither: what must be there was checked before
        elif found[0] is None or found[1] is None:
            reports.append(_difference(rule, "file", *("missing" if digest is None else "present" for digest in found)))
        elif rule.file_format is FileFormat.BYTES:
            reports.append(_difference(rule, "bytes", found[0], found[1]))
        else:
            reports.append(files_compare(rule, read(0, rule.path), read(1, rule.path)))
    return Comparison(tuple(reports), identical)


def _difference(rule: FileRule, place: str, one: str, other: str) -> FileReport:
    """Of a file that was not read."""
    tally = Tally(rule.path)
    tally.disagrees(place, one, other)
    return tally.report(rule.file_format or FileFormat.BYTES)


def _rule(file: ComparedFile, fallback: Tolerance) -> FileRule:
    own = _tolerance(file.absolute, file.relative, fallback)
    return FileRule(
        path=file.path,
        file_format=file.read_as,
        tolerance=own,
        columns={name: _tolerance(column.absolute, column.relative, own) for name, column in (file.columns or {}).items()},
        nan=file.nan,
        header=file.header,
        order=file.order,
        key=file.key,
        superpose=file.superpose,
    )


def _tolerance(absolute: float | None, relative: float | None, fallback: Tolerance) -> Tolerance:
    """What a rule says, each half that it leaves out from the fallback."""
    return Tolerance(
        fallback.absolute if absolute is None else absolute,
        fallback.relative if relative is None else relative,
    )
