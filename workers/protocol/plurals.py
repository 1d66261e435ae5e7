"""Numbers with their nouns, in sentences that people read."""

from __future__ import annotations


def counted(number: float, one: str, many: str = "") -> str:
    """`1 core`, `0.5 cores`, `3 replicas`, `2 leaves`; `many` where it is more than `one` and an s."""
    shown = str(number) if isinstance(number, int) else f"{number:g}"
    return f"{shown} {one if number == 1 else many or f'{one}s'}"
