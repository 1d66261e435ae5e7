"""Trying again until the portal has answered: what is worth another try, and what is an answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from workers.backoff import Backoff
from workers.journal import JournalError
from workers.portal import (
    PortalError,
    PortalInterruptedError,
    PortalRefusedError,
    PortalUnreachableError,
    ProtocolUnspokenError,
    SenderRefusedError,
)

log = logging.getLogger(__name__)

_LASTING_CODES = frozenset({"node_revoked", "key_retired"})
"""Refusals of the sender that are meant, and for good."""


def is_passing(error: PortalRefusedError) -> bool:
    """Whether an answer is no word about what was asked, and may be another one later.

    A refusal of the sender is: a wrong clock gets set, a proxy's header mended, an account that was closed by mistake opened again. What is
    to report to a portal whose protocol this software doesn't speak is kept for software that does.
    """
    return isinstance(error, ProtocolUnspokenError) or (isinstance(error, SenderRefusedError) and error.code not in _LASTING_CODES)


def portal_retry(
    step: Callable[[], None],
    *,
    stop: threading.Event,
    backoff: Backoff | None = None,
    passing: tuple[type[Exception], ...] = (),
) -> bool:
    """Call `step` until it returns (True), or until `stop` is set (False). Lets a refusal through: PortalRefusedError.

    An answer that is no answer (a proxy's page, a half-upgraded portal) is waited out like a silent portal, for as long as it asks for at
    least, and so are a full disk and `passing` errors: what is done is not lost for it.
    """
    backoff = backoff or Backoff()
    waited_out: tuple[type[Exception], ...] = (PortalError, JournalError, *passing)
    while not stop.is_set():
        at_least_seconds = 0.0
        try:
            step()
        except PortalInterruptedError:
            """Given up by this process itself, for `stop`."""
        except PortalRefusedError as error:
            if not is_passing(error):
                raise
            log.warning("%s; trying again", error)
        except waited_out as error:
            at_least_seconds = retry_after_seconds(error)
            log.warning("%s; trying again", error)
        else:
            return True
        stop.wait(backoff.failed(at_least_seconds=at_least_seconds))
    return False


def retry_after_seconds(error: Exception) -> float:
    """How long the portal has asked to be left alone; 0: it has not."""
    return error.retry_after_seconds if isinstance(error, PortalUnreachableError) else 0.0
