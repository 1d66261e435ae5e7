"""Who may do what in the database: the one place where every table is declared. Pure; database_roles.py puts it into effect.

1. The owner migrates and runs management commands. No process that serves hosts, browsers or queues connects as the owner.
2. The application (web, control, conclude) has APPLICATION. It is not the owner: it can't alter, truncate, or disable a trigger.
3. A verify worker reads strangers' bytes. It has VERIFY: the columns that its checks read, and new rows of evidence.
4. What is not declared is not granted. A table that stands in no line of APPLICATION is a fault that names this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ledger.append_only import APPEND_ONLY, BY_TRIGGER

Columns = tuple[str, ...]
Grant = Mapping[str, Columns]
"""Privilege to columns. WHOLE stands for the table and all its columns."""

WHOLE: Final[Columns] = ()

_READ: Final[Grant] = {"SELECT": WHOLE}
_ADD: Final[Grant] = {"SELECT": WHOLE, "INSERT": WHOLE}
_KEEP: Final[Grant] = {**_ADD, "UPDATE": WHOLE}
_ALL: Final[Grant] = {**_KEEP, "DELETE": WHOLE}

APPLICATION: Final[Mapping[str, Grant]] = {
    # Django's and allauth's
    **dict.fromkeys(("auth_permission", "django_content_type", "django_migrations"), _READ),
    **dict.fromkeys(("auth_group", "auth_group_permissions", "django_admin_log", "django_session"), _ALL),
    **dict.fromkeys(("account_emailaddress", "account_emailconfirmation", "mfa_authenticator", "usersessions_usersession"), _ALL),
    **dict.fromkeys(("socialaccount_socialaccount", "socialaccount_socialapp", "socialaccount_socialtoken"), _ALL),
    # people
    **dict.fromkeys(("people_apitoken", "people_user", "people_user_groups", "people_user_user_permissions"), _ALL),
    **dict.fromkeys(("people_notification", "people_notificationsetting"), _ALL),
    **dict.fromkeys(("people_maildelivery", "people_webhook", "people_webhookdelivery"), _ALL),
    "people_act": _ADD,
    "people_invitation": _ALL,
    **dict.fromkeys(("people_researcherapplication", "people_team", "people_teammember"), _ALL),
    # nodes
    **dict.fromkeys(("nodes_node", "nodes_nodekey"), _KEEP),
    "nodes_jointoken": _ALL,
    **dict.fromkeys(("nodes_workday", "nodes_walltotal"), _KEEP),
    **dict.fromkeys(("nodes_standing", "nodes_teamstanding"), _ALL),
    "nodes_nodesample": {**_ADD, "DELETE": WHOLE},
    # jobs
    **dict.fromkeys(("jobs_jobevent", "jobs_jobinput", "jobs_receipt", "jobs_ruling"), _ADD),
    "jobs_blob": {**_ADD, "UPDATE": ("data", "removed_at", "unwanted_since"), "DELETE": WHOLE},  # the control worker collects
    **dict.fromkeys(("jobs_calibration", "jobs_coordinatorclock", "jobs_job"), _KEEP),
    **dict.fromkeys(("jobs_jobkind", "jobs_nodeexchange", "jobs_replica", "jobs_spotkey"), _KEEP),
    **dict.fromkeys(("jobs_imageapproval", "jobs_imagebreaker", "jobs_imagerequest", "jobs_unpushedevents"), _ALL),
    **dict.fromkeys(("jobs_upload", "jobs_verificationbatch"), _ALL),
    "jobs_evidence": _READ,
    # ledger
    **dict.fromkeys(APPEND_ONLY, _ADD),
    "ledger_account": {**_ADD, "UPDATE": ("owner_id",)},  # a person forgotten; a right to one column is also what a row lock needs
    **dict.fromkeys(BY_TRIGGER, _READ),
}

NUMBERED: Final = ("ledger_logitem_id_seq",)
"""Sequences from which the application takes numbers itself (USAGE). Identity columns need no right to theirs."""

VERIFY: Final[Mapping[str, Grant]] = {
    "jobs_blob": {"SELECT": ("digest", "size_bytes", "data")},
    "jobs_evidence": _ADD,
    "jobs_job": {"SELECT": ("id", "descriptor")},
    "jobs_receipt": {"SELECT": ("id", "replica_id", "envelope", "archive_id", "log_id", "received_at")},
    "jobs_replica": {"SELECT": ("id", "job_id", "state", "node_key_id", "lease_id", "order_digest")},
    "nodes_nodekey": {"SELECT": ("key_id", "public_key")},
}
