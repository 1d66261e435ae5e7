"""Django's system checks of the portal. `manage.py check --database default` asks the database too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  Django's name for it
from django.db import connection

from nexaportal.database_roles import faults_find, roles_configured
from people.mail import mail_server_is_missing


@register(Tags.database)
def database_roles_check(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Warnings, not errors: `migrate` asks too, and must not be kept from running by what is set right after it."""
    if "default" not in (databases or ()):
        return []
    hint = "Run `manage.py database_roles` as the owner of the tables, after `migrate`."
    with connection.cursor() as cursor:
        try:
            faults = faults_find(cursor, roles_configured())
        except LookupError:
            return []  # not migrated yet
    return [Warning(fault, hint=hint, id="nexaportal.W001") for fault in faults]


@register(deploy=True)
def mail_server_check(**kwargs: Any) -> list[CheckMessage]:
    """A portal works without mail; whoever forgets their password there needs the operator."""
    if not mail_server_is_missing():
        return []
    hint = "Name the server by which the portal mails: NEXA_EMAIL_HOST (docs/operations.md, Mail)."
    return [Warning("No mail is sent: addresses can't be confirmed, nor passwords reset.", hint=hint, id="nexaportal.W002")]
