"""Why an audit can't be made, or not to its end. What is wrong with the log itself is a finding (client/audit/findings.py).

AuditError
├── SourceError             the log can't be read: unreachable, refused, or no such folder
│   ├── AbsentError         it is readable, but has no such object
│   └── SourceTooSlowError  an object did not arrive in time, however steadily it came
├── CoordinatorWrongError   another coordinator's log than the one that was pinned
├── MemoryUnusableError     what the last run left behind can't be read or written
└── WorkFolderError         the temporary folder can't hold what the audit must remember: a full disk, most likely
"""

from __future__ import annotations

from typing import ClassVar


class AuditError(Exception):
    """An audit without an outcome. `code` is stable."""

    code: ClassVar[str] = "audit_failed"


class SourceError(AuditError):
    """The log can't be read there."""

    code = "source_unreadable"


class AbsentError(SourceError):
    """There is no such object: no checkpoint yet, or a partial tile that has become a full one."""

    code = "source_absent"


class SourceTooSlowError(SourceError):
    """An object would not arrive in the time that it may take. Whoever serves it is overloaded, or wants to keep the auditor waiting."""

    code = "source_too_slow"


class CoordinatorWrongError(AuditError):
    """The log's coordinator key is neither the pinned one nor a successor of it."""

    code = "coordinator_wrong"


class MemoryUnusableError(AuditError):
    """The file of the last run can't be used; the message says what to do."""

    code = "memory_unusable"


class WorkFolderError(AuditError):
    """The temporary database can't be written; the message says what to do."""

    code = "work_folder_unusable"
