"""Who else may see a job's shared page. Never its inputs, results or failure messages: jobs/views/shared.py says what is on it."""

from __future__ import annotations

import secrets

from django.db import transaction

from jobs.descriptor import Visibility
from jobs.models import Job

LINK_SECRET_BYTES = 32


def link_secret_make() -> str:
    """What the link of an unlisted job holds: 43 characters that nobody guesses."""
    return secrets.token_urlsafe(LINK_SECRET_BYTES)


def job_visibility_set(*, job: Job, visibility: Visibility) -> Job:
    """Sets it, at any state of the job. The link of an unlisted job works while it stays unlisted; becoming so again makes a new one."""
    with transaction.atomic():
        locked = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
        if locked.visibility != visibility:
            locked.visibility = visibility
            locked.link_secret = link_secret_make() if visibility == Visibility.UNLISTED else ""
            locked.save(update_fields=["visibility", "link_secret"])
    return locked
