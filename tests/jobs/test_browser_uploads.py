"""Uploads of a signed-in browser: the API's tus behind session and CSRF check, taken up again, cancelled, nobody else's."""

from __future__ import annotations

import base64
import io
import uuid
from typing import Any

import pytest
from django.middleware.csrf import get_token
from django.test import Client, RequestFactory

from jobs.blobs import blob_store
from jobs.models import Blob, Upload
from jobs.services.uploads import UploadTooLargeError, upload_create, upload_take
from people.models import User
from tests.factories.jobs import funded_researcher_make
from tests.factories.people import moderator_make, researcher_make, token_header, user_make
from workers.protocol.digests import digest_of

pytestmark = pytest.mark.django_db
DATA = bytes(range(256)) * 400
TUS = {"Tus-Resumable": "1.0.0"}


class Browser:
    """A signed-in browser on the page: cookies, and the token that the page carries."""

    def __init__(self, user: User | None) -> None:
        self.client = Client(enforce_csrf_checks=True)
        if user is not None:
            self.client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        request = RequestFactory().get("/")
        self.token = get_token(request)
        self.client.cookies["csrftoken"] = request.META["CSRF_COOKIE"]

    def send(self, method: str, path: str, data: bytes = b"", /, **headers: str) -> Any:
        sent = {**TUS, "X-CSRFToken": self.token, **headers}
        return self.client.generic(method, path, data, content_type=sent.pop("Content-Type", ""), headers=sent)

    def announce(self, data: bytes = DATA, /, **headers: str) -> Any:
        metadata = f"digest {base64.b64encode(digest_of(data).encode()).decode()}"
        return self.send("POST", "/jobs/new/uploads/", **{"Upload-Length": str(len(data)), "Upload-Metadata": metadata, **headers})

    def patch(self, path: str, data: bytes, offset: int, /, **headers: str) -> Any:
        return self.send(
            "PATCH", path, data, **{"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream", **headers}
        )


def test_an_upload_breaks_off_and_goes_on_where_it_stopped() -> None:
    owner = funded_researcher_make()
    browser = Browser(owner)
    path = browser.announce()["Location"]
    assert browser.patch(path, DATA[:1000], 0)["Upload-Offset"] == "1000"
    again = Browser(owner).announce()
    assert (again["Location"], again["Upload-Offset"]) == (path, "1000")
    assert browser.send("HEAD", path)["Upload-Offset"] == "1000"
    assert browser.patch(path, DATA[1000:], 1000).status_code == 204
    assert Upload.objects.get(user=owner).committed_at is not None
    assert Blob.objects.get().digest == digest_of(DATA)


def test_without_the_pages_token_nothing_happens() -> None:
    browser = Browser(funded_researcher_make())
    path = browser.announce()["Location"]
    assert browser.announce(b"other", **{"X-CSRFToken": "x" * 64}).status_code == 403
    assert browser.patch(path, DATA, 0, **{"X-CSRFToken": ""}).status_code == 403
    assert browser.send("DELETE", path, **{"X-CSRFToken": ""}).status_code == 403
    assert [upload.offset_bytes for upload in Upload.objects.all()] == [0]


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_anothers_upload_is_not_there_whatever_the_role(method: str) -> None:
    path = Browser(funded_researcher_make()).announce()["Location"]
    missing = f"/jobs/new/uploads/{uuid.uuid4()}/"
    for stranger in (researcher_make(), moderator_make_researcher()):
        browser = Browser(stranger)
        for address in (path, missing):
            answer = browser.patch(address, DATA, 0) if method == "PATCH" else browser.send(method, address)
            assert answer.status_code == 404
            assert method == "HEAD" or answer.json()["code"] == "upload_unknown"
    assert Upload.objects.get().offset_bytes == 0


def moderator_make_researcher() -> User:
    moderator = moderator_make()
    moderator.researcher_approved_at = researcher_make().researcher_approved_at
    moderator.save()
    return moderator


def test_only_approved_researchers_have_anything_to_upload_for() -> None:
    assert (Browser(user_make()).announce().status_code, Upload.objects.count()) == (403, 0)
    answer = Browser(None).announce()
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_a_token_is_no_session_here_and_a_session_none_at_the_api() -> None:
    owner = funded_researcher_make()
    with_token = Browser(None)
    assert with_token.announce(**token_header(owner)).status_code == 401
    browser = Browser(owner)
    assert browser.send("POST", "/api/v1/uploads", **{"Upload-Length": "1"}).status_code in (400, 401)
    assert not Upload.objects.exists()


def test_a_cancelled_upload_is_gone_with_its_bytes_and_a_finished_one_stays() -> None:
    owner = funded_researcher_make()
    browser = Browser(owner)
    path = browser.announce()["Location"]
    browser.patch(path, DATA[:1000], 0)
    staged = blob_store()._staged_path(Upload.objects.get().pk)
    assert staged.exists()
    assert browser.send("DELETE", path).status_code == 204
    assert (Upload.objects.count(), staged.exists()) == (0, False)
    assert browser.send("DELETE", path).status_code == 404
    done = browser.announce(b"done")["Location"]
    browser.patch(done, b"done", 0)
    assert browser.send("DELETE", done).status_code == 204
    assert Upload.objects.get().committed_at is not None


def test_a_whole_file_finishes_what_was_begun_in_pieces() -> None:
    owner = funded_researcher_make()
    begun = upload_create(uploader=owner, digest=digest_of(DATA), size_bytes=len(DATA), lease_id=None)
    taken = upload_take(user=owner, stream=io.BytesIO(DATA), limit_bytes=len(DATA))
    assert taken.pk == begun.pk
    assert taken.committed_at is not None
    assert upload_take(user=owner, stream=io.BytesIO(DATA), limit_bytes=len(DATA)).pk == begun.pk
    with pytest.raises(UploadTooLargeError):
        upload_take(user=owner, stream=io.BytesIO(DATA), limit_bytes=len(DATA) - 1)
