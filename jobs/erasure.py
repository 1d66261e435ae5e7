"""What jobs know of a person who is erased.

1. Open jobs are an obstacle: hosts work on them, and credits are set aside for that.
2. Of ended ones goes what the person wrote for people: label, title, where inputs came from, and what failed programs said. What hosts were
   told (command, environment, names of files) is in signed orders, and stays.
3. Inputs and results are nobody's from then on: the collection removes the bytes (jobs/blobs/references.py, rule 5). Digests stay.
4. Events are written once: sentences of why jobs ended stay in them.
"""

from __future__ import annotations

from typing import Final

from django.db import connection

from jobs.models import ImageRequest, Job, Replica, Upload
from jobs.states import JOB_TERMINAL
from people.models import User
from workers.protocol.plurals import counted

_JOBS_ERASE: Final = """UPDATE jobs_job SET label = id::text, title = '', failure_message = '',
    descriptor = (descriptor - '{title,input_uri,input_files,inputs}'::text[]) || jsonb_build_object('job_id', id::text),
    visibility = 'private', link_secret = '', is_kept = false
    WHERE owner_id = %s"""


def erasure_obstacle(*, person: User) -> str | None:
    """Open jobs, disputed ones among them."""
    count = Job.objects.filter(owner=person).exclude(state__in=JOB_TERMINAL).count()
    if not count:
        return None
    what = f"{counted(count, 'job')} of this account {'has' if count == 1 else 'have'} not ended."
    return f"{what} Cancel, or wait; what is disputed waits for its ruling."


def person_erase(*, person: User) -> None:
    """Empties the person's jobs of what they wrote, and forgets uploads and requests for images."""
    Upload.objects.filter(user=person).delete()
    ImageRequest.objects.filter(asked_by=person).delete()
    Replica.objects.filter(job__owner=person).exclude(failure_message="").update(failure_message="")
    with connection.cursor() as cursor:
        cursor.execute(_JOBS_ERASE, [person.pk])
