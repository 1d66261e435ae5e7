"""The version of this software, as hosts and portals tell each other. Not the protocol's: that is messages.base.PROTOCOL_VERSION."""

import re
from typing import Final

SOFTWARE_VERSION: Final = "0.1.0"
_FORM: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}")


def version_numbers(text: str) -> tuple[int, ...] | None:
    """`1.2.0` as (1, 2): its numbers without zeros at the end. None where it isn't one to four numbers with dots between."""
    if not _FORM.fullmatch(text):
        return None
    numbers = [int(part) for part in text.split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def version_is_older(found: str, than: str) -> bool:
    """Whether both are versions as above, and `found` comes before `than`: of another software's numbering nothing is said."""
    ours, theirs = version_numbers(found), version_numbers(than)
    return ours is not None and theirs is not None and ours < theirs
