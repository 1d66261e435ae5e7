"""Trying again until the portal has answered: what is worth another try, and what is an answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from workers.backoff import Backoff
from workers.journal import JournalError
from workers.portal import PortalError, PortalInterruptedError, PortalRefusedError
from workers.protocol.validation import ProtocolUnsupportedError

log = logging.getLogger(__name__)

PASSING_CODES = frozenset({"signature_stale", "signature_replayed", ProtocolUnsupportedError.code})
"""Refusals of one request, not of what it asks: a wrong clock gets set, and a request that a proxy sent twice is signed anew. What is to
report to a portal whose protocol this software doesn't speak is kept for software that does."""


def portal_retry(step: Callable[[], None], *, stop: threading.Event, backoff: Backoff | None = None) -> bool:
    """Call `step` until it returns (True), or until `stop` is set (False). Lets a refusal through: PortalRefusedError.

    An answer that is no answer (a proxy's page, a half-upgraded portal) is waited out like a silent portal, and so is a full disk: what is
    done is not lost for it.
    """
    backoff = backoff or Backoff()
    while not stop.is_set():
        try:
            step()
        except PortalInterruptedError:
            """Given up by this process itself, for `stop`."""
        except PortalRefusedError as error:
            if error.code not in PASSING_CODES:
                raise
            log.warning("%s; trying again", error)
        except (PortalError, JournalError) as error:
            log.warning("%s; trying again", error)
        else:
            return True
        stop.wait(backoff.failed())
    return False
