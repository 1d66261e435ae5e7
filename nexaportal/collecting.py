"""Python's garbage collector in the process that answers."""

from __future__ import annotations

import gc
from typing import Final

YOUNG_OBJECTS: Final = 10_000


def loaded_keep() -> None:
    """What is loaded by now stays till the process ends: the collector passes it over, and looks at the rest less often.

    A portal's modules are 160,000 objects, and each large batch of receipts or jobs had the collector go through them all.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
