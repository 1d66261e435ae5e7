"""The API client: against the real portal for what it does, against a scripted one for what a portal should never do."""

from __future__ import annotations

import io
import secrets
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.api import PortalApi, origin_parse
from people.models import Scope
from tests.client.live_portal import LivePortal
from tests.client.scripted_portal import Answer, Asked, json_answer, problem_answer, scripted_portal
from tests.factories.jobs import descriptor_make
from tests.services import COORDINATOR_KEY_RAW
from workers.portal import PortalError, PortalProtocolError, PortalRefusedError, PortalUnreachableError
from workers.protocol.digests import digest_of
from workers.protocol.keys import PrivateKey
from workers.protocol.messages.delivery import UPLOAD_CHUNK_BYTES_MAX

TOKEN = "nexa_" + "t" * 43
MIB = 2**20


# --- on the real portal --------------------------------------------------------------------------------------------------


def test_public_addresses_need_no_token(portal: LivePortal) -> None:
    api = PortalApi(portal.origin)
    assert api.coordinator_key_id() == PrivateKey.from_raw(COORDINATOR_KEY_RAW).public.key_id
    assert api.status()["version"]
    with pytest.raises(PortalRefusedError) as caught:
        api.jobs()
    assert caught.value.status == 401


def test_token_says_whose_it_is(portal: LivePortal) -> None:
    user, token = portal.researcher(Scope.JOBS_READ)
    assert PortalApi(portal.origin, token).me()["username"] == user.username


def test_job_is_submitted_once_listed_read_and_cancelled(portal: LivePortal) -> None:
    _, token = portal.researcher()
    api = PortalApi(portal.origin, token)
    descriptor = descriptor_make(job_id=f"label-{secrets.token_hex(4)}")
    job = api.job_submit(descriptor)
    assert api.job_submit(descriptor)["id"] == job["id"]
    with pytest.raises(PortalRefusedError) as conflict:
        api.job_submit({**descriptor, "type": "other"})
    assert (conflict.value.code, conflict.value.status) == ("label_conflict", 409)
    assert [one["id"] for one in api.jobs()["jobs"]] == [job["id"]]
    assert api.jobs(state="completed")["jobs"] == []
    assert api.job(job["id"])["state"] == "queued"
    assert [replica["state"] for replica in api.job_replicas(job["id"])] == ["queued"]
    assert [event["kind"] for event in api.job_events(job["id"])] == ["job.queued"]
    assert api.job_cancel(job["id"])["state"] == "cancelled"


def test_refusal_carries_the_portals_code(portal: LivePortal) -> None:
    _, token = portal.researcher()
    with pytest.raises(PortalRefusedError) as caught:
        PortalApi(portal.origin, token).job_submit(descriptor_make(surprise=1))
    assert caught.value.code == "descriptor_invalid"
    assert "descriptor_invalid" in str(caught.value)


def test_account_holds_what_was_granted_and_not_reserved(portal: LivePortal) -> None:
    _, token = portal.researcher()
    api = PortalApi(portal.origin, token)
    assert int(api.account()["balance_micro"]) == 10_000_000
    job = api.job_submit(descriptor_make(job_id=f"cost-{secrets.token_hex(4)}"))
    assert int(api.account()["balance_micro"]) == 10_000_000 - int(job["reserved_micro"])


def test_join_token_and_nodes(portal: LivePortal) -> None:
    _, token = portal.researcher()
    api = PortalApi(portal.origin, token)
    assert api.join_token_mint().startswith("nexa-join1.")
    assert api.nodes() == []


def test_upload_goes_on_where_an_earlier_try_stopped(portal: LivePortal, tmp_path: Path) -> None:
    _, token = portal.researcher()
    data = secrets.token_bytes(UPLOAD_CHUNK_BYTES_MAX + MIB)
    path = tmp_path / "input.bin"
    path.write_bytes(data)
    first = PortalApi(portal.origin, token)
    url = first.upload_create(digest=digest_of(data), size_bytes=len(data))
    assert first.upload_append(url, offset=0, chunk=data[:MIB]) == MIB

    seen: list[tuple[int, int]] = []
    again = PortalApi(portal.origin, token)
    assert again.input_upload(path, progress=lambda done, total: seen.append((done, total))) == (digest_of(data), len(data))
    assert seen == [(MIB, len(data)), (MIB + UPLOAD_CHUNK_BYTES_MAX, len(data))]
    assert again.input_upload(path) == (digest_of(data), len(data))  # and once more: nothing is left to send


def test_lost_answer_to_a_chunk_is_found_out(portal: LivePortal) -> None:
    """The portal is further than the client knows: it asks, and goes on from there."""
    _, token = portal.researcher()
    api = PortalApi(portal.origin, token)
    data = secrets.token_bytes(3000)
    url = api.upload_create(digest=digest_of(data), size_bytes=len(data))
    assert api.upload_append(url, offset=0, chunk=data[:1000]) == 1000
    assert api.upload_append(url, offset=0, chunk=data[:1000]) == 1000
    with pytest.raises(PortalRefusedError) as caught:
        api.upload_append(url, offset=2000, chunk=data[2000:])
    assert caught.value.code == "upload_offset_conflict"


def test_empty_file_uploads(portal: LivePortal, tmp_path: Path) -> None:
    _, token = portal.researcher()
    (tmp_path / "empty").touch()
    assert PortalApi(portal.origin, token).input_upload(tmp_path / "empty") == (digest_of(b""), 0)


def test_bundle_of_a_completed_job_downloads_whole(portal: LivePortal) -> None:
    _, token = portal.researcher()
    api = PortalApi(portal.origin, token)
    job = api.job_submit(descriptor_make(job_id=f"done-{secrets.token_hex(4)}", verification={"copies": 2, "quorum": 2}))
    with pytest.raises(PortalRefusedError) as early:
        api.bundle_download(job["id"], io.BytesIO())
    assert early.value.code == "result_unavailable"
    portal.job_complete(job["id"])
    out, seen = io.BytesIO(), []
    size = api.bundle_download(job["id"], out, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (size, size) == (len(out.getvalue()), size)
    assert out.getvalue().startswith(b"PK")


# --- a portal that is away, or is none -----------------------------------------------------------------------------------


def test_portal_away_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        api = PortalApi(f"http://127.0.0.1:{unused.getsockname()[1]}", TOKEN)
        with pytest.raises(PortalUnreachableError, match="can't be reached"):
            api.status()


@pytest.mark.parametrize("host", ["foo..bar", "a" * 64 + ".example", ".example", "*.example"])
def test_portal_whose_host_has_a_label_that_can_be_none_is_unreachable(host: str) -> None:
    with pytest.raises(PortalUnreachableError, match="can't be reached"):
        PortalApi(f"https://{host}").status()


@pytest.mark.parametrize("answer", [Answer(502, b"<html>"), Answer(503), problem_answer(500, "internal"), problem_answer(429, "slow_down")])
def test_portal_in_trouble_is_worth_another_try(answer: Answer) -> None:
    with scripted_portal(lambda _: answer) as fake, pytest.raises(PortalUnreachableError):
        PortalApi(fake.origin).status()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, b"<html>not found</html>"),
        Answer(200, b"<html>hello</html>"),
        Answer(200, b""),
        json_answer([]),
        json_answer("text"),
        Answer(200, b'{"key_id": 1, "key_id": 2}'),
        json_answer({"key_id": 7}),
        json_answer({}),
        json_answer({"code": 5}, 400),
    ],
)
def test_answer_that_is_none_of_a_portal_is_a_protocol_error(answer: Answer) -> None:
    with scripted_portal(lambda _: answer) as fake, pytest.raises(PortalProtocolError):
        PortalApi(fake.origin).coordinator_key_id()


@settings(max_examples=100, deadline=None)
@given(status=st.integers(200, 599).filter(lambda code: code not in (204, 304)), body=st.binary(max_size=60))
def test_whatever_a_portal_answers_only_portal_errors_come_out(status: int, body: bytes) -> None:
    with scripted_portal(lambda _: Answer(status, body)) as fake, pytest.raises(PortalError):
        PortalApi(fake.origin, TOKEN).job("0b9f4a1e-3c55-4f0d-8f4f-7a1d5f3c2b02")


def test_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.api.ANSWER_LIMIT_BYTES", 1000)
    with scripted_portal(lambda _: Answer(200, b" " * 5000)) as fake, pytest.raises(PortalProtocolError, match="at most 1000 bytes"):
        PortalApi(fake.origin).status()


def test_download_that_breaks_off_is_unreachable_not_done() -> None:
    with scripted_portal(lambda _: Answer(200, b"x" * 1000, body_cut=400)) as fake, pytest.raises(PortalUnreachableError):
        PortalApi(fake.origin, TOKEN).bundle_download("some-id", io.BytesIO())


# --- uploads that a portal answers wrongly -------------------------------------------------------------------------------


def _upload_script(offsets: list[str], location: str = "/api/v1/uploads/1") -> Any:
    def script(asked: Asked) -> Answer:
        if asked.method == "POST":
            return Answer(201, headers={"Location": location, "Upload-Offset": "0"})
        return Answer(204 if asked.method == "PATCH" else 200, headers={"Upload-Offset": offsets.pop(0)})

    return script


@pytest.mark.parametrize("offsets", [["0", "0"], ["0", "11"], ["0", "x"], ["-1"], ["0", "9" * 20], [""]])
def test_upload_whose_offset_does_not_move_on_is_refused(tmp_path: Path, offsets: list[str]) -> None:
    """Neither an endless loop nor a file that is taken for complete."""
    (tmp_path / "in").write_bytes(b"0123456789")
    with scripted_portal(_upload_script(offsets)) as fake, pytest.raises(PortalProtocolError, match="Upload-Offset"):
        PortalApi(fake.origin, TOKEN).input_upload(tmp_path / "in")


def test_upload_address_elsewhere_gets_neither_bytes_nor_token(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"secret input")
    with scripted_portal(lambda _: Answer(200)) as other:
        script = _upload_script(["0"], location=f"{other.origin}/take")
        with scripted_portal(script) as fake, pytest.raises(PortalProtocolError, match="goes nowhere else"):
            PortalApi(fake.origin, TOKEN).input_upload(tmp_path / "in")
        assert other.asked == []


@pytest.mark.parametrize("is_absolute", [False, True])
def test_upload_to_a_host_in_capital_letters_arrives(tmp_path: Path, is_absolute: bool) -> None:
    """Requests writes hosts in small letters, and a portal its own address as it likes."""
    (tmp_path / "in").write_bytes(b"0123456789")
    with scripted_portal(_upload_script(["0", "10"])) as fake:
        if is_absolute:
            fake.script = _upload_script(["0", "10"], location=fake.origin.replace("127.0.0.1", "localhost") + "/api/v1/uploads/1")
        api = PortalApi(fake.origin.replace("127.0.0.1", "LocalHost"), TOKEN)
        assert api.input_upload(tmp_path / "in") == (digest_of(b"0123456789"), 10)
    assert [asked.path for asked in fake.asked] == ["/api/v1/uploads", "/api/v1/uploads/1", "/api/v1/uploads/1"]


def test_upload_address_is_read_from_the_origin_however_the_host_is_spelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests calls the host xn--…; the address is relative, and the origin is what it was."""
    (tmp_path / "in").write_bytes(b"0123456789")
    with scripted_portal(_upload_script(["0", "10"])) as fake:
        monkeypatch.setenv("HTTP_PROXY", fake.origin)
        assert PortalApi("http://köln.example", TOKEN).input_upload(tmp_path / "in")[1] == 10
    assert {asked.headers["host"] for asked in fake.asked} == {"xn--kln-sna.example"}


def test_file_that_shrinks_meanwhile_is_an_oserror(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"0123456789")

    def script(asked: Asked) -> Answer:
        if asked.method == "HEAD":
            path.write_bytes(b"")
        return Answer(201, headers={"Location": "/api/v1/uploads/1", "Upload-Offset": "0"})

    with scripted_portal(script) as fake, pytest.raises(OSError, match="shorter"):
        PortalApi(fake.origin, TOKEN).input_upload(path)


# --- the token -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed_and_leaks_no_token(status: int) -> None:
    with scripted_portal(lambda _: json_answer({"jobs": []})) as other:
        redirect = Answer(status, headers={"Location": f"{other.origin}/api/v1/jobs"})
        with scripted_portal(lambda _: redirect) as fake, pytest.raises(PortalProtocolError):
            PortalApi(fake.origin, TOKEN).jobs()
        assert other.asked == []


def test_token_is_sent_as_it_is_whatever_netrc_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login eve password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with scripted_portal(lambda _: json_answer({"jobs": []})) as fake:
        PortalApi(fake.origin, TOKEN).jobs()
        PortalApi(fake.origin).jobs()
    assert [asked.headers.get("authorization") for asked in fake.asked] == [f"Bearer {TOKEN}", None]


def test_token_is_in_no_message_of_an_error() -> None:
    with scripted_portal(lambda _: problem_answer(403, "scope_missing", detail="no")) as fake, pytest.raises(PortalRefusedError) as caught:
        PortalApi(fake.origin, TOKEN).jobs()
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(caught.value)


@pytest.mark.parametrize("token", ["", "two words", "line\r\nX-Other: 1", "tökén"])
def test_token_that_can_be_none_is_refused_before_it_is_sent(token: str) -> None:
    with pytest.raises(PortalProtocolError, match="API token"):
        PortalApi("https://portal.example", token)


@pytest.mark.parametrize("job_id", ["../tokens", "a/b", "", "x?y", "a" * 65, "id\n"])
def test_job_id_that_is_more_than_one_segment_is_refused(job_id: str) -> None:
    with pytest.raises(PortalProtocolError, match="job's id"):
        PortalApi("https://portal.example", TOKEN).job(job_id)


# --- origins -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://portal.example", "https://portal.example"),
        ("https://portal.example/", "https://portal.example"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("HTTPS://Portal.Example:8443", "https://portal.example:8443"),
        ("http://[FE80::1%25Eth0]", "http://[fe80::1%25Eth0]"),
    ],
)
def test_origin_is_read(text: str, origin: str) -> None:
    assert origin_parse(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        "",
        "portal.example",
        "ftp://portal.example",
        "https://",
        "https://user@portal.example",
        "https://u:p@portal.example",
        "https://portal.example/path",
        "https://portal.example?x",
        "https://portal.example#x",
        "https://portal.example:port",
        "https://[::1",
        "https://portal.example:99999",
    ],
)
def test_address_that_is_no_origin_is_refused(text: str) -> None:
    with pytest.raises(PortalProtocolError, match="address"):
        origin_parse(text)


@given(text=st.text(max_size=60))
def test_any_text_is_an_origin_or_refused(text: str) -> None:
    try:
        origin_parse(text)
    except PortalProtocolError:
        return
    assert text.startswith(("http://", "https://", "HTTP", "Http")) or text.lower().startswith("http")
