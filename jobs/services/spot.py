"""The draw of `spot` jobs: which of them run twice. It is made when a job is first claimed, and once.

1. A key chooses: HMAC-SHA256 of the job's id is below the job's share, or not (workers/protocol/leaves.py). Nobody outside can foresee it,
   since the key is secret; nobody inside can bend it unseen, since the key's digest was in the public log before the key chose, and the
   key itself follows (jobs/services/spot_keys.py).
2. Without a usable key, every job of the claim runs twice: work is not kept waiting, and nothing is left unchecked that should have been.
3. The second replica is not queued here. Of a chosen job two must agree, so settlement asks for it when the first result is in
   (jobs/verdicts.py, rule 5). Till then a chosen job looks like any other in every queue, to the host that runs it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from jobs.bulk import rows_update
from jobs.descriptor import RedundancyPolicy
from jobs.models import Job, SpotKey
from workers.protocol.leaves import spot_chosen

SPOT_SHARE_DEFAULT: Final = 0.1
"""Of a job that states none."""

SPOT_COPIES: Final = 2
"""Copies, and quorum, of a job that is chosen."""

# The lock makes a key's reveal wait for this transaction; what is revealed while this statement waits is left out.
_KEY: Final = """
SELECT * FROM jobs_spotkey WHERE published_at <= %(now)s AND ends_at > %(now)s AND revealed_at IS NULL
ORDER BY ends_at, id LIMIT 1 FOR KEY SHARE
"""


def spot_draw(jobs: Sequence[Job], now: datetime) -> None:
    """Decides for those of `jobs` whose policy is `spot` and that are not decided yet, in two statements; the others stay as they are.

    The caller holds the jobs' row locks and is inside the transaction that takes their first leases.
    """
    drawn = [job for job in jobs if job.policy == RedundancyPolicy.SPOT and job.spot_chosen is None]
    if not drawn:
        return
    key = next(iter(SpotKey.objects.raw(_KEY, {"now": now})), None)
    for job in drawn:
        if job.spot_share is None:
            job.spot_share = SPOT_SHARE_DEFAULT
        job.spot_key = key
        job.spot_chosen = key is None or spot_chosen(secret=bytes(key.secret), job_id=job.pk, share=job.spot_share)
        if job.spot_chosen:
            job.copies = job.quorum = SPOT_COPIES
    rows_update(drawn, ["spot_key", "spot_share", "spot_chosen", "copies", "quorum"])
