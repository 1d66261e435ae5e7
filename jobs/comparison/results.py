"""Comparison of two whole results by the rules of a descriptor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from jobs.comparison.numeric import FileRule, FileUnreadableError, files_compare, numeric_supported
from jobs.comparison.tolerance import Comparison, Deviation, Tolerance, comparison_of
from jobs.descriptor import Descriptor, VerificationMethod
from workers.protocol.messages import Manifest


def rules_of(descriptor: Descriptor, manifests: tuple[Manifest, Manifest]) -> tuple[list[FileRule], list[str]]:
    """(files compared as numbers, files compared byte for byte). A descriptor without `files` compares every file of either result."""
    verification = descriptor.verification
    paths = [file.path for file in verification.files] or sorted({f.path for manifest in manifests for f in manifest.files})
    if verification.method == VerificationMethod.EXACT:
        return [], paths
    fallback = Tolerance(relative=descriptor.tolerance)
    if not verification.files:
        rules = [FileRule(path, fallback) for path in paths if numeric_supported(path)]
        return rules, [path for path in paths if not numeric_supported(path)]
    rules = []
    for file in verification.files:
        own = _tolerance(file.absolute, file.relative, fallback)
        columns = {name: _tolerance(column.absolute, column.relative, own) for name, column in (file.columns or {}).items()}
        rules.append(FileRule(file.path, own, columns))
    return rules, []


def results_compare(*, descriptor: Descriptor, manifests: tuple[Manifest, Manifest], read: Callable[[int, str], bytes]) -> Comparison:
    """Whether two checked results agree. `read(0 or 1, path)` gives the bytes of a file that the manifest names.

    Raises FileUnreadableError for a file that both have and that can't be compared: that is a fault of the job's rules or program.
    """
    rules, exact = rules_of(descriptor, manifests)
    digests: tuple[Mapping[str, str], Mapping[str, str]] = (
        {file.path: file.digest for file in manifests[0].files},
        {file.path: file.digest for file in manifests[1].files},
    )
    deviations: list[Deviation] = []
    for rule in rules:
        if digests[0].get(rule.path) == digests[1].get(rule.path):
            continue  # the same bytes, or the file is in neither: what must be there was checked before
        if rule.path not in digests[0] or rule.path not in digests[1]:
            deviations.append(_missing(rule.path, digests))
            continue
        if (worst := files_compare(rule, read(0, rule.path), read(1, rule.path))) is not None:
            deviations.append(worst)
    for path in exact:
        if path not in digests[0] or path not in digests[1]:
            deviations.extend([_missing(path, digests)] if path in digests[0] or path in digests[1] else [])
        elif digests[0][path] != digests[1][path]:
            deviations.append(Deviation(path, "bytes", digests[0][path], digests[1][path], math.inf, 0.0))
    return comparison_of(deviations)


def _missing(path: str, digests: tuple[Mapping[str, str], Mapping[str, str]]) -> Deviation:
    states = ["present" if path in side else "missing" for side in digests]
    return Deviation(path, "file", states[0], states[1], math.inf, 0.0)


def _tolerance(absolute: float | None, relative: float | None, fallback: Tolerance) -> Tolerance:
    """What a rule says, each half that it leaves out from the fallback."""
    return Tolerance(
        fallback.absolute if absolute is None else absolute,
        fallback.relative if relative is None else relative,
    )


__all__ = ["FileUnreadableError", "results_compare", "rules_of"]
