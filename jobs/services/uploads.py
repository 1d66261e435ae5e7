"""Resumable uploads: of a host for a lease that it holds or held, and of a person who will submit a job.

1. Whether the portal has a blob already is never answered: each lease and each person uploads in full what they refer to.
2. An offset moves only by a chunk that starts at it. Two requests at once: one gets on, the other is told the offset.
3. The last byte commits: the whole must have the digest that was announced, else the upload is gone and starts anew.
4. What is kept for a person is limited (jobs/storage.py), and finished uploads are forgotten after NEXA_UPLOAD_DAYS.
5. All uploads of a lease together have at most what its order allows for outputs, and ARCHIVE_AND_LOG_BYTES for what holds them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum
from django.utils import timezone

from jobs.blobs import BlobDigestMismatchError, BlobTooLargeError, blob_discard, blob_of_upload, blob_store, blob_write
from jobs.descriptor import Descriptor
from jobs.models import Replica, Upload
from jobs.states import JOB_OPEN, REPLICA_LIVE, JobState, ReplicaState
from jobs.storage import storage_check
from nodes.models import Node
from people.forgetting import rows_forget
from people.models import User
from workers.protocol.digests import Readable
from workers.protocol.problems import ProblemError

UPLOADS_PER_LEASE_MAX: Final = 16
UPLOADS_OPEN_PER_USER_MAX: Final = 64

ARCHIVE_AND_LOG_BYTES: Final = 128 * 2**20
"""Beyond the outputs themselves. A log has at most half of it; headers, padding and manifest of as many files as an archive may hold, with
the longest paths, have less than the other half."""

UPLOAD_ABANDONED: Final = timedelta(days=2)
"""Age at which an unfinished upload is given up; one for a lease only once the lease is over."""

SWEEP_MAX: Final = 500


class UploadUnknownError(ProblemError):
    """No such upload of this uploader; whether somebody else has it is not said."""

    code: ClassVar[str] = "upload_unknown"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "There is no such upload"


class LeaseUnknownError(ProblemError):
    """No such lease of this node; whether another node holds it is not said."""

    code: ClassVar[str] = "lease_unknown"
    status: ClassVar[int] = 404
    title: ClassVar[str] = "There is no such lease"


class LeaseOverError(ProblemError):
    """The lease's result can't count any more."""

    code: ClassVar[str] = "lease_over"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The lease is over"


class UploadConflictError(ProblemError):
    """The digest was announced before with another length."""

    code: ClassVar[str] = "upload_conflict"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The upload was announced differently before"


class UploadOffsetConflictError(ProblemError):
    """The chunk doesn't start where the upload stands."""

    code: ClassVar[str] = "upload_offset_conflict"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The upload stands at another offset"


class UploadTooLargeError(ProblemError):
    """More bytes than may be uploaded, or than were announced."""

    code: ClassVar[str] = "upload_too_large"
    status: ClassVar[int] = 413
    title: ClassVar[str] = "The upload is too large"


class UploadsTooManyError(ProblemError):
    """More uploads than one lease or one person may have."""

    code: ClassVar[str] = "uploads_too_many"
    status: ClassVar[int] = 429
    title: ClassVar[str] = "There are too many uploads"


def upload_create(*, uploader: Node | User, digest: str, size_bytes: int, lease_id: UUID | None) -> Upload:
    """The upload of these bytes for this lease (hosts) or by this person; the same one when asked again.

    An upload of no bytes is committed at once. Raises LeaseUnknownError, LeaseOverError, UploadConflictError,
    UploadTooLargeError, UploadsTooManyError, StorageFullError, BlobDigestMismatchError.
    """
    with transaction.atomic():
        if isinstance(uploader, Node):
            upload = _create_for_lease(uploader, lease_id, digest, size_bytes)
        else:
            upload = _create_for_user(uploader, digest, size_bytes)
        if upload.size_bytes != size_bytes:
            raise UploadConflictError(
                f"{digest} was announced with {upload.size_bytes} bytes before; found {size_bytes}. One digest has one length."
            )
        if size_bytes == 0 and upload.committed_at is None:
            _commit(upload)
    return upload


def upload_find(*, uploader: Node | User, upload_id: UUID) -> Upload:
    """An upload of this uploader. Raises UploadUnknownError."""
    upload = Upload.objects.filter(_of(uploader), pk=upload_id).first()
    if upload is None:
        raise _unknown()
    return upload


def upload_append(*, uploader: Node | User, upload_id: UUID, offset: int, data: bytes) -> Upload:
    """Adds `data` at `offset`; the last byte commits the blob. Returns the upload as it stands then.

    Raises UploadUnknownError, UploadOffsetConflictError (it names the offset), UploadTooLargeError, LeaseOverError, and
    BlobDigestMismatchError, after which the upload is gone.
    """
    try:
        with transaction.atomic():
            upload = (
                Upload.objects.select_for_update(of=("self",)).select_related("replica__job").filter(_of(uploader), pk=upload_id).first()
            )
            if upload is None:
                raise _unknown()  # noqa: TRY301  the handlers below are for these too
            if offset != upload.offset_bytes:
                raise UploadOffsetConflictError(  # noqa: TRY301  as above
                    f"The upload stands at offset {upload.offset_bytes}; the chunk is for {offset}. Go on from there.",
                    offset=upload.offset_bytes,
                )
            if offset + len(data) > upload.size_bytes:
                raise UploadTooLargeError(  # noqa: TRY301  as above
                    f"{upload.size_bytes} bytes were announced; this chunk would make it {offset + len(data)}. Announce the right length."
                )
            if data:
                if upload.replica is not None:
                    _lease_check(upload.replica)
                blob_store().staged_append(upload.pk, offset=offset, data=data)
                upload.offset_bytes += len(data)
                if upload.offset_bytes == upload.size_bytes:
                    _commit(upload)
                else:
                    upload.save(update_fields=["offset_bytes"])
            return upload
    except BlobDigestMismatchError:
        Upload.objects.filter(_of(uploader), pk=upload_id).delete()
        raise
    except BaseException:
        blob_store().hash_drop(upload_id)
        raise


def upload_take(*, user: User, stream: Readable, limit_bytes: int) -> Upload:
    """A whole file of this person at once, committed; the same one for the same bytes. Raises UploadTooLargeError, StorageFullError."""
    try:
        blob = blob_write(stream, limit_bytes=min(limit_bytes, settings.NEXA_INPUT_BYTES_MAX))
    except BlobTooLargeError as error:
        raise UploadTooLargeError(f"Expected at most {limit_bytes} bytes; the file has more.", limit_bytes=limit_bytes) from error
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        now = timezone.now()
        done = {"size_bytes": blob.size_bytes, "offset_bytes": blob.size_bytes, "committed_at": now}
        upload = Upload.objects.filter(user=user, digest=blob.digest).first()
        is_new = upload is None or upload.committed_at is None
        if is_new:  # what was announced counts already, and may have been another length
            storage_check(user=user, more_bytes=blob.size_bytes - (upload.size_bytes if upload else 0))
        if upload is None:
            return Upload.objects.create(user=user, digest=blob.digest, **done)
        Upload.objects.filter(pk=upload.pk).update(**done)
        upload.refresh_from_db()
    if is_new:
        blob_discard(upload.pk)
    return upload


def upload_cancel(*, user: User, upload_id: UUID) -> None:
    """Forgets an unfinished upload of this person with its staged bytes; a finished one stays. Raises UploadUnknownError."""
    with transaction.atomic():
        upload = Upload.objects.select_for_update(of=("self",)).filter(user=user, pk=upload_id).first()
        if upload is None:
            raise _unknown()
        if upload.committed_at is not None:
            return
        upload.delete()
    blob_discard(upload_id)


def uploads_sweep(*, now: datetime) -> int:
    """Forgets unfinished uploads that nobody will finish, with their staged bytes; returns how many. Idempotent.

    Removes files too that a killed process left: of uploads that are no more, and what it was writing into the blob store.
    """
    is_over = Q(replica=None) | ~Q(replica__state__in=REPLICA_LIVE)
    with transaction.atomic():
        abandoned = Upload.objects.select_for_update(of=("self",), skip_locked=True).filter(
            is_over, committed_at=None, created_at__lte=now - UPLOAD_ABANDONED
        )
        upload_ids = list(abandoned.order_by("created_at").values_list("pk", flat=True)[:SWEEP_MAX])
        Upload.objects.filter(pk__in=upload_ids).delete()
    for upload_id in upload_ids:
        blob_discard(upload_id)
    blob_store().leftovers_remove(before=now - UPLOAD_ABANDONED)
    staged = blob_store().staged_before(now - UPLOAD_ABANDONED)[:SWEEP_MAX]
    known = set(Upload.objects.filter(pk__in=staged, committed_at=None).values_list("pk", flat=True))
    for upload_id in staged:
        if upload_id not in known:
            blob_discard(upload_id)
    return len(upload_ids)


def uploads_finished_forget(*, now: datetime) -> int:
    """Forgets finished uploads, and returns how many: of people after NEXA_UPLOAD_DAYS, of leases once their job is concluded.

    What a job or a receipt refers to stays by that; the bytes of others are collected later.
    """
    of_people = Upload.objects.filter(user__isnull=False, committed_at__lt=now - timedelta(days=settings.NEXA_UPLOAD_DAYS))
    before = now - UPLOAD_ABANDONED
    of_leases = Upload.objects.filter(committed_at__lt=before, replica__job__concluded_at__lt=before)
    return sum(rows_forget(rows, order="committed_at") for rows in (of_people, of_leases))


def _create_for_lease(node: Node, lease_id: UUID | None, digest: str, size_bytes: int) -> Upload:
    replica = (
        Replica.objects.select_for_update(of=("self",), no_key=True).select_related("job").filter(node=node, lease_id=lease_id).first()
    )
    if lease_id is None or replica is None:
        raise LeaseUnknownError("This node has no such lease. A host uploads for a lease of its own: name it as `lease_id`.")
    existing = replica.uploads.filter(digest=digest).first()
    if existing is not None:
        return existing
    _lease_check(replica)
    uploads = replica.uploads.all()
    if len(uploads) >= UPLOADS_PER_LEASE_MAX:
        raise UploadsTooManyError(
            f"A lease has at most {UPLOADS_PER_LEASE_MAX} uploads, and this one has them: an archive and a log are enough."
        )
    announced = uploads.aggregate(total=Sum("size_bytes"))["total"] or 0
    output_bytes = Descriptor.model_validate(replica.job.descriptor).run_limits.output_bytes
    limit_bytes = min(output_bytes + ARCHIVE_AND_LOG_BYTES, settings.NEXA_UPLOAD_BYTES_MAX)
    _size_check(announced + size_bytes, limit_bytes, f"all uploads of this lease, whose order allows {output_bytes} bytes of outputs")
    return Upload.objects.create(replica=replica, digest=digest, size_bytes=size_bytes)


def _create_for_user(user: User, digest: str, size_bytes: int) -> Upload:
    User.objects.select_for_update(no_key=True).get(pk=user.pk)  # one at a time: the count below holds
    existing = Upload.objects.filter(user=user, digest=digest).first()
    if existing is not None:
        if existing.committed_at is not None:
            existing.committed_at = timezone.now()  # whoever announces it means to submit with it: its days begin anew
            existing.save(update_fields=["committed_at"])
        return existing
    _size_check(size_bytes, settings.NEXA_INPUT_BYTES_MAX, "an input")
    storage_check(user=user, more_bytes=size_bytes)
    if Upload.objects.filter(user=user, committed_at=None).count() >= UPLOADS_OPEN_PER_USER_MAX:
        raise UploadsTooManyError(f"You have {UPLOADS_OPEN_PER_USER_MAX} unfinished uploads, which is the most. Finish some first.")
    return Upload.objects.create(user=user, digest=digest, size_bytes=size_bytes)


def _size_check(size_bytes: int, limit_bytes: int, what: str) -> None:
    if size_bytes > limit_bytes:
        raise UploadTooLargeError(f"Expected at most {limit_bytes} bytes for {what}; found {size_bytes}.", limit_bytes=limit_bytes)


def _lease_check(replica: Replica) -> None:
    """Raises LeaseOverError where a result of this lease can't count: its job is closed, or its receipt is in."""
    state = ReplicaState(replica.state)
    if (state not in REPLICA_LIVE and state != ReplicaState.EXPIRED) or JobState(replica.job.state) not in JOB_OPEN:
        raise LeaseOverError("The lease has ended: its receipt is recorded, or its job is closed. There is nothing left to upload for it.")


def _commit(upload: Upload) -> None:
    blob_of_upload(upload.pk, digest=upload.digest, size_bytes=upload.size_bytes)
    upload.committed_at = timezone.now()
    upload.save(update_fields=["offset_bytes", "committed_at"])


def _of(uploader: Node | User) -> Q:
    return Q(replica__node=uploader) if isinstance(uploader, Node) else Q(user=uploader)


def _unknown() -> UploadUnknownError:
    return UploadUnknownError("You have no upload of that id. It may be gone because its bytes had another digest; announce it again.")
