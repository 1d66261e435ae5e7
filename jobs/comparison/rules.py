"""How one file is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.descriptor.formats import FileFormat, NanPolicy, RowOrder


@dataclass(frozen=True)
class Tolerance:
    """Two numbers agree when they differ by at most `absolute + relative * max(|one|, |other|)`."""

    absolute: float = 0.0
    relative: float = 0.0

    def allowed(self, one: float, other: float) -> float:
        """The difference that is still agreement."""
        return self.absolute + self.relative * max(abs(one), abs(other))


EXACTLY = Tolerance()


@dataclass(frozen=True)
class FileRule:
    """The rule for the file at `path`: `tolerance`, except where `columns` names another. What the format has no use for is ignored.

    `file_format` None: nothing is known that could read it, and comparing raises FileUnreadableError.
    """

    path: str
    file_format: FileFormat | None
    tolerance: Tolerance = EXACTLY
    columns: Mapping[str, Tolerance] = field(default_factory=dict)
    nan: NanPolicy = NanPolicy.EQUAL
    header: bool | None = None
    order: RowOrder = RowOrder.FIXED
    key: tuple[str, ...] = ()
    superpose: bool = True

    @property
    def refuses_nan(self) -> bool:
        return self.nan is NanPolicy.REFUSE

    def tolerance_of(self, column: str) -> Tolerance:
        return self.columns.get(column, self.tolerance)
