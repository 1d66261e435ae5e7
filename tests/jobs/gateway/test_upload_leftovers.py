"""Uploads that nobody finishes are forgotten; Upload-Metadata is read without surprises."""

from __future__ import annotations

import io
import shutil
from datetime import datetime, timedelta

import pytest
from django.test import RequestFactory
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from jobs.blobs import blob_store
from jobs.gateway.requests import HeaderInvalidError
from jobs.gateway.uploads import _metadata
from jobs.models import Upload
from jobs.services.uploads import UPLOAD_ABANDONED, upload_append, upload_create, uploads_sweep
from tests.factories.people import user_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import SimulatedHost
from workers.protocol.digests import digest_of
from workers.protocol.errors import VerificationError


def later() -> datetime:
    return timezone.now() + UPLOAD_ABANDONED + timedelta(seconds=1)


@pytest.mark.django_db
def test_an_abandoned_upload_is_forgotten_with_its_bytes_and_can_be_announced_again(settings: pytest.FixtureRequest) -> None:
    user, digest = user_make(), digest_of(b"abandoned")
    upload = upload_create(uploader=user, digest=digest, size_bytes=9, lease_id=None)
    upload_append(uploader=user, upload_id=upload.pk, offset=0, data=b"aban")
    staged = settings.NEXA_BLOB_ROOT / "staging" / str(upload.pk)  # type: ignore[attr-defined]  # pytest-django's settings
    assert staged.exists()
    uploads_sweep(now=timezone.now())
    assert Upload.objects.filter(pk=upload.pk).exists()
    assert (uploads_sweep(now=later()), uploads_sweep(now=later())) == (1, 0)
    assert not staged.exists()
    assert upload_create(uploader=user, digest=digest, size_bytes=9, lease_id=None).offset_bytes == 0


@pytest.mark.django_db
def test_committed_uploads_and_those_of_live_leases_stay() -> None:
    queued_job()
    host, user = SimulatedHost(), user_make()
    lease_id = host.order().lease_id
    live = upload_create(uploader=host.node, digest=digest_of(b"live"), size_bytes=4, lease_id=lease_id)
    whole = upload_create(uploader=user, digest=digest_of(b""), size_bytes=0, lease_id=None)
    assert uploads_sweep(now=later()) == 0
    assert set(Upload.objects.values_list("pk", flat=True)) == {live.pk, whole.pk}


@pytest.mark.django_db
def test_what_a_killed_process_was_writing_is_removed_when_nobody_has_touched_it_for_long(settings: pytest.FixtureRequest) -> None:
    store = blob_store()

    class Killed(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            """The process ends in the midst of `BlobStore.write`: nothing of it is tidied up, so its file is copied to stay."""
            [written] = staging.glob("write-*")
            shutil.copy2(written, staging / "write-left")
            return b""

    staging = settings.NEXA_BLOB_ROOT / "staging"  # type: ignore[attr-defined]  # pytest-django's settings
    store.keep(store.write(Killed()))
    user = user_make()
    upload = upload_create(uploader=user, digest=digest_of(b"else"), size_bytes=4, lease_id=None)
    upload_append(uploader=user, upload_id=upload.pk, offset=0, data=b"el")
    assert [path.name for path in staging.glob("write-*")] == ["write-left"]
    uploads_sweep(now=timezone.now())
    assert (staging / "write-left").exists()
    assert store.leftovers_remove(before=later() - UPLOAD_ABANDONED) == 1
    assert store.leftovers_remove(before=later() - UPLOAD_ABANDONED) == 0
    (staging / "write-left").touch()
    uploads_sweep(now=later())
    assert list(staging.glob("write-*")) == []


@given(st.text(st.characters(max_codepoint=255), max_size=1100) | st.from_regex(r"(digest|lease_id) [A-Za-z0-9+/=]{0,40}(,.*)?"))
def test_any_metadata_is_read_or_refused_with_a_documented_error(text: str) -> None:
    request = RequestFactory().post("/api/v1/uploads", headers={"Upload-Metadata": text})
    try:
        digest, _ = _metadata(request)
    except (HeaderInvalidError, VerificationError):
        return
    assert digest.startswith("sha256:")
