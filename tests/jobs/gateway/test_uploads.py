"""Uploads: tus 1.0 over HTTP, and what they tell to whom."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from jobs.blobs import BlobTooLargeError, blob_open, blob_store, blob_write, blobs_keep
from jobs.models import Blob, Upload
from jobs.services.uploads import ARCHIVE_AND_LOG_BYTES
from tests.factories.people import token_header, user_make
from tests.jobs.gateway.queued_jobs import queued_job
from tests.jobs.gateway.simulated_host import LOG, SimulatedHost, _encoded, body_of
from workers.protocol.compute_log import LOG_BYTES_MAX
from workers.protocol.digests import digest_of
from workers.protocol.messages.delivery import UPLOAD_CHUNK_BYTES_MAX
from workers.protocol.messages.receipt import Manifest, ManifestFile
from workers.protocol.tar_headers import BLOCK_BYTES, OUTPUTS_PREFIX, ArchiveLimits, header_encode, manifest_encode

pytestmark = pytest.mark.django_db
DATA = bytes(range(256)) * 100


@pytest.fixture
def host() -> SimulatedHost:
    return SimulatedHost()


@pytest.fixture
def lease_id(host: SimulatedHost) -> uuid.UUID:
    queued_job()
    return host.order().lease_id


def announced(host: SimulatedHost, lease_id: uuid.UUID, data: bytes = DATA) -> str:
    answer = host.upload_create(lease_id, digest_of(data), len(data))
    assert (answer.status_code, answer["Upload-Offset"], answer["Tus-Resumable"]) == (201, "0", "1.0.0")
    return str(answer["Location"])


def code_of(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def stored(digest: str) -> bytes:
    with blob_open(digest) as file:
        return file.read()


class TestTus:
    def test_a_whole_in_chunks_becomes_a_blob(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        path = announced(host, lease_id)
        half = len(DATA) // 2
        assert host.patch(path, DATA[:half], 0)["Upload-Offset"] == str(half)
        assert not Blob.objects.exists()
        head = host.send("HEAD", path, b"", **{"Tus-Resumable": "1.0.0"})
        assert (head.status_code, head["Upload-Offset"], head["Upload-Length"]) == (200, str(half), str(len(DATA)))
        assert head["Cache-Control"] == "no-store"
        last = host.patch(path, DATA[half:], half)
        assert (last.status_code, last["Upload-Offset"]) == (204, str(len(DATA)))
        assert stored(digest_of(DATA)) == DATA
        assert Blob.objects.get().size_bytes == len(DATA)

    def test_another_process_resumes_after_half(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        path = announced(host, lease_id)
        half = len(DATA) // 2
        host.patch(path, DATA[:half], 0)
        blob_store.cache_clear()  # the memory of a process, with the state of the hash
        again = host.upload_create(lease_id, digest_of(DATA), len(DATA))
        assert (again["Location"], again["Upload-Offset"]) == (path, str(half))
        assert host.patch(path, DATA[half:], half).status_code == 204
        assert stored(digest_of(DATA)) == DATA

    def test_leftovers_beyond_the_offset_are_overwritten(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        path = announced(host, lease_id)
        upload_id = uuid.UUID(path.rsplit("/", 1)[1])
        host.patch(path, DATA[:100], 0)
        blob_store().staged_append(upload_id, offset=100, data=b"of a request that failed before its commit" * 10)
        assert host.patch(path, DATA[100:], 100).status_code == 204
        assert stored(digest_of(DATA)) == DATA

    @pytest.mark.parametrize("is_same_process", [True, False])
    def test_staged_bytes_that_are_lost_are_never_made_up(self, host: SimulatedHost, lease_id: uuid.UUID, is_same_process: bool) -> None:
        path = announced(host, lease_id)
        host.patch(path, DATA[:100], 0)
        (settings.NEXA_BLOB_ROOT / "staging" / path.rsplit("/", 1)[1]).unlink()
        if not is_same_process:
            blob_store.cache_clear()
        assert code_of(host.patch(path, DATA[100:200], 100)) == (460, "upload_digest_mismatch")
        assert host.patch(announced(host, lease_id), DATA, 0).status_code == 204
        assert stored(digest_of(DATA)) == DATA

    def test_a_chunk_elsewhere_is_a_conflict_that_names_the_offset(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        path = announced(host, lease_id)
        host.patch(path, DATA[:10], 0)
        for offset in (0, 9, 11):
            answer = host.patch(path, DATA[:10], offset)
            assert code_of(answer) == (409, "upload_offset_conflict")
            assert answer.json()["offset"] == 10

    def test_other_bytes_are_refused_and_the_upload_starts_anew(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        path = announced(host, lease_id)
        assert code_of(host.patch(path, DATA[:-1] + b"!", 0)) == (460, "upload_digest_mismatch")
        assert not Blob.objects.exists()
        assert code_of(host.patch(path, DATA, 0)) == (404, "upload_unknown")
        second = announced(host, lease_id)
        assert second != path
        assert host.patch(second, DATA, 0).status_code == 204

    def test_more_than_announced_is_refused(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        path = announced(host, lease_id)
        assert code_of(host.patch(path, DATA + b"!", 0)) == (413, "upload_too_large")
        assert host.patch(path, DATA, 0).status_code == 204
        assert code_of(host.patch(path, b"!", len(DATA))) == (413, "upload_too_large")

    def test_a_chunk_beyond_8_mib_is_refused(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        data = b"\0" * (UPLOAD_CHUNK_BYTES_MAX + 1)
        path = announced(host, lease_id, data)
        assert code_of(host.patch(path, data, 0)) == (413, "body_too_large")
        assert host.patch(path, data[:-1], 0).status_code == 204
        assert host.patch(path, data[-1:], UPLOAD_CHUNK_BYTES_MAX).status_code == 204

    def test_an_empty_file_is_committed_when_announced(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        announced(host, lease_id, b"")
        assert stored(digest_of(b"")) == b""
        assert code_of(host.upload_create(lease_id, digest_of(b"x"), 0)) == (460, "upload_digest_mismatch")

    def test_the_same_digest_with_another_length_is_a_conflict(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        announced(host, lease_id)
        assert code_of(host.upload_create(lease_id, digest_of(DATA), 7)) == (409, "upload_conflict")

    def test_options_say_what_is_spoken(self) -> None:
        answer = Client().options("/api/v1/uploads")
        assert (answer.status_code, answer["Tus-Version"], answer["Tus-Extension"]) == (204, "1.0.0", "creation")

    @pytest.mark.parametrize(
        ("changed", "status", "code"),
        [
            ({"Tus-Resumable": "0.2.2"}, 412, "tus_version_unsupported"),
            ({"Upload-Length": "-1"}, 400, "header_invalid"),
            ({"Upload-Length": "1e3"}, 400, "header_invalid"),
            ({"Upload-Length": "9" * 30}, 413, "upload_too_large"),
            ({"Upload-Length": "9" * 16}, 413, "upload_too_large"),
            ({"Upload-Metadata": ""}, 400, "header_invalid"),
            ({"Upload-Metadata": "digest ***"}, 400, "header_invalid"),
            ({"Upload-Metadata": "digest"}, 400, "digest_malformed"),
            ({"Upload-Metadata": f"digest {_encoded('md5:00')}"}, 400, "digest_malformed"),
            ({"Upload-Metadata": f"digest {_encoded(digest_of(b''))},lease_id {_encoded('x')}"}, 400, "header_invalid"),
            ({"Upload-Metadata": f"digest {_encoded('a')},digest {_encoded('a')}"}, 400, "header_invalid"),
            ({"Upload-Metadata": "a" * 2000}, 400, "header_invalid"),
        ],
        ids=str,
    )
    def test_malformed_announcements(self, host: SimulatedHost, lease_id: uuid.UUID, changed: Any, status: int, code: str) -> None:
        assert code_of(host.upload_create(lease_id, digest_of(DATA), 5, **changed)) == (status, code)

    def test_malformed_chunks(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        path = announced(host, lease_id)
        assert code_of(host.patch(path, DATA, 0, **{"Content-Type": "application/json"})) == (415, "media_type_unsupported")
        assert code_of(host.patch(path, DATA, 0, **{"Upload-Offset": "zero"})) == (400, "header_invalid")
        assert code_of(host.patch(path, DATA, 0, **{"Tus-Resumable": ""})) == (412, "tus_version_unsupported")
        assert host.send("POST", path).status_code == 405
        assert host.patch("/api/v1/uploads/not-an-id", DATA, 0).status_code == 404


class TestPermissions:
    def test_a_node_cannot_upload_for_anothers_lease(self, lease_id: uuid.UUID) -> None:
        stranger = SimulatedHost()
        found = stranger.upload_create(lease_id, digest_of(LOG), len(LOG))
        absent = stranger.upload_create(uuid.uuid4(), digest_of(LOG), len(LOG))
        assert code_of(found) == code_of(absent) == (404, "lease_unknown")
        assert found.json() == absent.json()
        assert code_of(stranger.upload_create(None, digest_of(LOG), len(LOG))) == (404, "lease_unknown")

    def test_anothers_upload_looks_like_none(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        path = announced(host, lease_id)
        stranger = SimulatedHost()
        for target in (path, f"/api/v1/uploads/{uuid.uuid4()}"):
            assert code_of(stranger.patch(target, DATA, 0)) == (404, "upload_unknown")
            assert stranger.send("HEAD", target, b"", **{"Tus-Resumable": "1.0.0"}).status_code == 404

    def test_whether_a_blob_exists_is_not_told(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        host.upload(lease_id, DATA)
        queued_job()
        other = SimulatedHost()
        other_lease = other.order().lease_id
        path = announced(other, other_lease)  # asserts offset 0, as for bytes that nobody has
        assert other.patch(path, DATA, 0).status_code == 204

    def test_nobody_uploads_without_saying_who(self) -> None:
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "1", "Upload-Metadata": f"digest {_encoded(digest_of(b'a'))}"}
        assert code_of(Client().post("/api/v1/uploads", b"", content_type="text/plain", headers=headers)) == (401, "not_authenticated")

    def test_a_lease_has_only_so_many_uploads(self, host: SimulatedHost, lease_id: uuid.UUID) -> None:
        for number in range(16):
            announced(host, lease_id, b"%d" % number)
        assert code_of(host.upload_create(lease_id, digest_of(LOG), len(LOG))) == (429, "uploads_too_many")

    def test_all_uploads_of_a_lease_share_one_limit(self, host: SimulatedHost, lease_id: uuid.UUID, settings: Any) -> None:
        settings.NEXA_UPLOAD_BYTES_MAX = 150
        assert host.upload_create(lease_id, digest_of(b"a"), 100).status_code == 201
        assert code_of(host.upload_create(lease_id, digest_of(b"b"), 51)) == (413, "upload_too_large")

    def test_a_lease_uploads_no_more_than_its_order_allows(self, host: SimulatedHost) -> None:
        queued_job()
        order = host.order()
        most_bytes = order.limits.output_bytes + ARCHIVE_AND_LOG_BYTES
        refused = host.upload_create(order.lease_id, digest_of(b"a"), most_bytes + 1)
        assert code_of(refused) == (413, "upload_too_large")
        assert refused.json()["limit_bytes"] == most_bytes
        assert host.upload_create(order.lease_id, digest_of(b"a"), most_bytes - 1).status_code == 201
        assert code_of(host.upload_create(order.lease_id, digest_of(b"b"), 2)) == (413, "upload_too_large")
        assert host.upload_create(order.lease_id, digest_of(b"c"), 1).status_code == 201

    def test_what_is_allowed_beyond_outputs_holds_the_largest_log_and_the_headers_of_any_archive(self) -> None:
        """The largest file header, padding and line of the manifest that a path can need, for as many files as an archive holds."""
        path = "\U0001f9ec" * 255
        line = manifest_encode(Manifest(files=(ManifestFile(path=path, digest=digest_of(b""), size_bytes=2**53 - 1),)))
        each_bytes = len(header_encode(OUTPUTS_PREFIX + path, 2**53 - 1)) + BLOCK_BYTES + len(line)
        assert ArchiveLimits().files * each_bytes + 4 * BLOCK_BYTES + LOG_BYTES_MAX <= ARCHIVE_AND_LOG_BYTES


class TestPeople:
    def send(self, user: Any, data: bytes, scopes: list[str] | None = None) -> Any:
        client, token = Client(), token_header(user, scopes)
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(data)), "Upload-Metadata": f"digest {_encoded(digest_of(data))}"}
        created = client.post("/api/v1/uploads", b"", content_type="text/plain", headers={**token, **headers})
        if created.status_code != 201:
            return created
        chunk = {**token, "Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
        return client.patch(created["Location"], data, content_type="application/offset+octet-stream", headers=chunk)

    def test_a_person_uploads_and_reads_what_is_theirs(self) -> None:
        user = user_make()
        assert self.send(user, DATA).status_code == 204
        path = f"/api/v1/blobs/{digest_of(DATA)}"
        read = Client().get(path, headers=token_header(user))
        assert (read.status_code, body_of(read)) == (200, DATA)
        assert code_of(Client().get(path, headers=token_header(user_make()))) == (404, "blob_unknown")
        assert code_of(Client().get(path)) == (401, "not_authenticated")

    def test_a_token_needs_the_scope(self) -> None:
        assert code_of(self.send(user_make(), DATA, ["jobs:read"])) == (403, "scope_missing")

    def test_inputs_have_a_limit(self, settings: Any) -> None:
        settings.NEXA_INPUT_BYTES_MAX = len(DATA) - 1
        assert code_of(self.send(user_make(), DATA)) == (413, "upload_too_large")

    def test_unfinished_uploads_have_a_limit(self) -> None:
        user = user_make()
        Upload.objects.bulk_create(Upload(user=user, digest=digest_of(b"%d" % number), size_bytes=9) for number in range(64))
        assert code_of(self.send(user, DATA)) == (429, "uploads_too_many")


class TestStore:
    @pytest.mark.parametrize("is_small", [True, False], ids=["in its row", "in the store"])
    @pytest.mark.parametrize("way", ["upload", "stream", "along"])
    def test_few_bytes_are_in_the_row_and_more_in_the_store_whichever_way_they_came(
        self, host: SimulatedHost, lease_id: uuid.UUID, settings: Any, way: str, is_small: bool
    ) -> None:
        data = f"{way} {is_small}".encode()
        settings.NEXA_BLOB_INLINE_BYTES = len(data) if is_small else len(data) - 1
        if way == "upload":
            host.upload(lease_id, data)
        elif way == "stream":
            blob_write(io.BytesIO(data))
        else:
            blobs_keep({digest_of(data): data})
        blob = Blob.objects.get()
        assert (blob.digest, blob.size_bytes, blob.data is not None) == (digest_of(data), len(data), is_small)
        with blob_open(blob) as by_row, blob_open(blob.digest) as by_digest:
            assert by_row.read() == by_digest.read() == data
        if is_small:
            with pytest.raises(FileNotFoundError):
                blob_store().open(blob.digest)

    def test_what_there_is_already_stays_as_it_is(self, settings: Any) -> None:
        settings.NEXA_BLOB_INLINE_BYTES = 0
        blob_write(io.BytesIO(DATA))
        settings.NEXA_BLOB_INLINE_BYTES = len(DATA)
        blobs_keep({digest_of(DATA): DATA})
        assert blob_write(io.BytesIO(DATA)) == Blob.objects.get()
        assert Blob.objects.get().data is None

    @pytest.mark.parametrize("inline_bytes", [0, 5, 1000])
    def test_a_stream_has_the_digest_and_size_of_its_bytes_wherever_it_goes(self, settings: Any, inline_bytes: int) -> None:
        settings.NEXA_BLOB_INLINE_BYTES = inline_bytes
        blob = blob_write(io.BytesIO(DATA), limit_bytes=len(DATA))
        assert (blob.digest, blob.size_bytes, stored(blob.digest)) == (digest_of(DATA), len(DATA), DATA)

    def test_the_same_bytes_are_one_blob(self, tmp_path: Path) -> None:
        (tmp_path / "data").write_bytes(DATA)
        for _ in range(2):
            with (tmp_path / "data").open("rb") as file:
                assert blob_write(file).digest == digest_of(DATA)
        assert Blob.objects.count() == 1
        assert stored(digest_of(DATA)) == DATA

    def test_a_stream_beyond_its_limit_leaves_nothing(self, tmp_path: Path) -> None:
        data = b"never stored before"
        (tmp_path / "data").write_bytes(data)
        with (tmp_path / "data").open("rb") as file, pytest.raises(BlobTooLargeError):
            blob_write(file, limit_bytes=3)
        assert not Blob.objects.exists()
        with pytest.raises(FileNotFoundError):
            blob_open(digest_of(data))


class TestRange:
    @pytest.mark.parametrize(
        ("asked", "status", "expected"),
        [
            ("bytes=0-3", 206, b"0123"),
            ("bytes=7-", 206, b"789"),
            ("bytes=-2", 206, b"89"),
            ("bytes=8-100", 206, b"89"),
            ("bytes=0-9", 200, b"0123456789"),
            ("bytes=5-2", 200, b"0123456789"),
            ("bytes=0-1,3-4", 200, b"0123456789"),
            ("lines=1-2", 200, b"0123456789"),
            ("bytes=-999", 200, b"0123456789"),
            ("bytes=10-", 416, b""),
            ("bytes=-0", 416, b""),
        ],
    )
    def test_one_range_is_served(self, asked: str, status: int, expected: bytes) -> None:
        queued_job(inputs={"in": b"0123456789"})
        host = SimulatedHost()
        path = f"/api/v1/blobs/{host.order().inputs[0].digest}"
        answer = host.send("GET", path, b"", Range=asked)
        assert (answer.status_code, body_of(answer) if answer.streaming else answer.content) == (status, expected)
        if status != 416:
            head = host.send("HEAD", path, b"", Range=asked)
            assert (head.status_code, head["Content-Length"], head.content) == (status, str(len(expected)), b"")

    def test_a_node_reads_inputs_of_its_live_leases_only(self) -> None:
        job = queued_job(inputs={"in": b"0123456789"})
        host, stranger = SimulatedHost(), SimulatedHost()
        order = host.order()
        path = f"/api/v1/blobs/{order.inputs[0].digest}"
        assert code_of(stranger.send("GET", path)) == (404, "blob_unknown")
        assert code_of(stranger.send("GET", f"/api/v1/blobs/{digest_of(b'none')}")) == (404, "blob_unknown")
        host.report(order)
        assert code_of(host.send("GET", path)) == (404, "blob_unknown")
        read = Client().get(path, headers=token_header(job.owner))
        assert body_of(read) == b"0123456789"

    def test_an_expired_lease_of_an_open_job_still_gets_its_inputs(self) -> None:
        """Expiry invalidates nothing: a host that came back late must not report that the input can't be had."""
        job = queued_job(inputs={"in": b"0123456789"})
        host = SimulatedHost()
        path = f"/api/v1/blobs/{host.order().inputs[0].digest}"
        job.replicas.update(state="expired")
        assert body_of(host.send("GET", path)) == b"0123456789"
        type(job).objects.filter(pk=job.pk).update(state="failed")
        assert code_of(host.send("GET", path)) == (404, "blob_unknown")

    def test_results_are_read_by_the_jobs_owner_after_the_conclusion(self) -> None:
        job = queued_job()
        host = SimulatedHost()
        host.report(host.order())
        path, token = f"/api/v1/blobs/{digest_of(LOG)}", token_header(job.owner)
        assert code_of(Client().get(path, headers=token)) == (404, "blob_unknown")
        for state in ("completed", "cancelled"):
            type(job).objects.filter(pk=job.pk).update(state=state)
            job.replicas.update(state="accepted")
            assert body_of(Client().get(path, headers=token)) == LOG
            for never_judged in ("reported", "cancelled", "expired"):
                job.replicas.update(state=never_judged)
                assert code_of(Client().get(path, headers=token)) == (404, "blob_unknown")
        job.replicas.update(state="accepted")
        assert code_of(Client().get(path, headers=token_header(user_make()))) == (404, "blob_unknown")

    def test_a_malformed_digest_is_refused(self) -> None:
        assert code_of(SimulatedHost().send("GET", "/api/v1/blobs/md5:1")) == (400, "digest_malformed")
