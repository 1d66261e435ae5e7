"""What the front page and `/status` say of the portal: made once for all who ask within some seconds.

Both are public, and to count all jobs by their state takes longer the more there are: whoever asks in a loop must not have it done each
time.
"""

from __future__ import annotations

from typing import Final

from jobs import selectors
from jobs.live import figures
from jobs.live.sharing import Shared

STATUS_SECONDS: Final = 5.0

portal: Final = Shared(selectors.portal_status, seconds=STATUS_SECONDS)
tiers: Final = Shared(figures.tiers_now, seconds=STATUS_SECONDS)
