"""From a descriptor file to uploaded inputs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.api import PortalApi
from client.submission import DESCRIPTOR_LIMIT_BYTES, UPLOAD_TRIES, DescriptorFileError, descriptor_load, inputs_upload
from tests.client.live_portal import LivePortal
from tests.client.scripted_portal import Answer, Asked, problem_answer, scripted_portal
from tests.factories.jobs import descriptor_make
from workers.portal import PortalUnreachableError
from workers.protocol.digests import digest_of

TOKEN = "nexa_" + "t" * 43
NOWHERE = PortalApi("http://127.0.0.1:9", TOKEN)
"""For what must be refused before anything is sent."""


def written(folder: Path, content: bytes) -> Path:
    path = folder / "job.json"
    path.write_bytes(content)
    return path


def test_descriptor_is_read_as_it_is(tmp_path: Path) -> None:
    document = descriptor_make(input_files=["a.txt"], inputs=[{"path": "a.txt", "digest": digest_of(b"")}])
    assert descriptor_load(written(tmp_path, json.dumps(document).encode())) == document


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Not JSON"),
        (b"[]", "expected a JSON object"),
        (b'{"a":1,"a":2}', "twice"),
        (b"\xff", "UTF-8"),
        (b'{"input_files": "a.txt"}', "list of file names"),
        (b'{"input_files": [3]}', "list of file names"),
        (b'{"inputs": {}}', "objects with a path"),
        (b'{"inputs": ["a.txt"]}', "objects with a path"),
        (b'{"inputs": [{"digest": "x"}]}', "objects with a path"),
        (b" " * (DESCRIPTOR_LIMIT_BYTES + 1), "at most"),
    ],
)
def test_file_that_is_no_descriptor_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DescriptorFileError, match=message):
        descriptor_load(written(tmp_path, content))


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DescriptorFileError, match="can't be read"):
        descriptor_load(tmp_path / "none.json")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=120) | st.text(max_size=120).map(str.encode))
def test_any_bytes_are_a_descriptor_or_refused(tmp_path: Path, content: bytes) -> None:
    with contextlib.suppress(DescriptorFileError):
        assert isinstance(descriptor_load(written(tmp_path, content)), dict)


def test_inputs_are_uploaded_from_beside_the_file_or_below_inputs(portal: LivePortal, tmp_path: Path) -> None:
    _, token = portal.researcher()
    api = PortalApi(portal.origin, token)
    (tmp_path / "inputs" / "deep").mkdir(parents=True)
    (tmp_path / "inputs" / "deep" / "a.bin").write_bytes(first := secrets.token_bytes(100))
    (tmp_path / "b.txt").write_bytes(second := secrets.token_bytes(10))
    seen: dict[str, list[tuple[int, int]]] = {}

    def progress(name: str) -> Any:
        return lambda done, total: seen.setdefault(name, []).append((done, total))

    document = descriptor_make(job_id=f"in-{secrets.token_hex(4)}", input_files=["deep/a.bin", "b.txt", "b.txt"])
    document["input_files"] = ["deep/a.bin", "b.txt"]
    found = inputs_upload(api, document, tmp_path, progress=progress)
    assert found["inputs"] == [
        {"path": "deep/a.bin", "digest": digest_of(first), "size_bytes": 100},
        {"path": "b.txt", "digest": digest_of(second), "size_bytes": 10},
    ]
    assert seen == {"deep/a.bin": [(0, 100), (100, 100)], "b.txt": [(0, 10), (10, 10)]}
    job = api.job_submit(found)
    assert {each["path"] for each in job["inputs"]} == {"deep/a.bin", "b.txt"}


def test_descriptor_without_inputs_or_with_an_uri_sends_nothing(tmp_path: Path) -> None:
    document = descriptor_make()
    assert inputs_upload(NOWHERE, document, tmp_path) == document
    remote = descriptor_make(input_uri="https://data.example.org/", input_files=["a.txt"])
    assert inputs_upload(NOWHERE, remote, tmp_path) == remote


def test_stated_digest_must_be_the_files(portal: LivePortal, tmp_path: Path) -> None:
    _, token = portal.researcher()
    (tmp_path / "a.txt").write_bytes(b"found")
    document = descriptor_make(inputs=[{"path": "a.txt", "digest": digest_of(b"expected")}])
    with pytest.raises(DescriptorFileError, match="Which one is meant"):
        inputs_upload(PortalApi(portal.origin, token), document, tmp_path)


def test_missing_input_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"here")
    with pytest.raises(DescriptorFileError, match="neither"):
        inputs_upload(NOWHERE, descriptor_make(input_files=["a.txt", "b.txt"]), tmp_path)


@pytest.mark.parametrize("name", ["../secret.txt", "link.txt"])
def test_input_outside_of_the_descriptors_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A descriptor from a stranger can't have this machine's files uploaded."""
    folder = tmp_path / "job"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("mine")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(DescriptorFileError, match="outside"):
        inputs_upload(NOWHERE, descriptor_make(input_files=[name]), folder)


def test_absolute_input_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("mine")
    with pytest.raises(DescriptorFileError, match="outside"):
        inputs_upload(NOWHERE, descriptor_make(input_files=[str(tmp_path / "secret.txt")]), folder)


def test_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DescriptorFileError, match="looked for"):
        inputs_upload(NOWHERE, descriptor_make(input_files=["x" * 5000]), tmp_path)


def test_input_that_vanishes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"0123")

    def script(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            os.truncate(path, 0)
        return Answer(201, headers={"Location": "/api/v1/uploads/1", "Upload-Offset": "0"})

    with scripted_portal(script) as fake, pytest.raises(DescriptorFileError, match="can't be read"):
        inputs_upload(PortalApi(fake.origin, TOKEN), descriptor_make(input_files=["a.txt"]), tmp_path)


def test_upload_is_taken_up_again_when_the_portal_was_away(tmp_path: Path) -> None:
    """Two chunks' worth of trouble: the second try sends only what the portal does not have."""
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    arrived = bytearray(b"0123")
    trouble = [problem_answer(503, "busy"), Answer(502, b"<html>")]

    def script(asked: Asked) -> Answer:
        if asked.method == "PATCH" and trouble:
            return trouble.pop(0)
        if asked.method == "PATCH":
            assert asked.headers["upload-offset"] == str(len(arrived))
            arrived.extend(asked.body)
        return Answer(200, headers={"Location": "/api/v1/uploads/1", "Upload-Offset": str(len(arrived))})

    waits: list[float] = []
    with scripted_portal(script) as fake:
        found = inputs_upload(PortalApi(fake.origin, TOKEN), descriptor_make(input_files=["a.txt"]), tmp_path, pause=waits.append)
    assert bytes(arrived) == b"0123456789"
    assert found["inputs"][0]["digest"] == digest_of(b"0123456789")
    assert len(waits) == 2


def test_portal_that_stays_away_is_told_after_some_tries(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    waits: list[float] = []
    with scripted_portal(lambda _: Answer(503)) as fake, pytest.raises(PortalUnreachableError):
        inputs_upload(PortalApi(fake.origin, TOKEN), descriptor_make(input_files=["a.txt"]), tmp_path, pause=waits.append)
    assert len(waits) == UPLOAD_TRIES - 1 == len(fake.asked) - 1
