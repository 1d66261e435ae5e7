"""Fetched inputs, from a real TLS server; and every door that must stay shut."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.conf import settings as django_settings

from jobs.blobs import blob_open
from jobs.descriptor import array_parse, descriptor_parse
from jobs.errors import (
    InputAddressPrivateError,
    InputHostNotAllowedError,
    InputMismatchError,
    InputTooLargeError,
    InputUnreachableError,
    InputUriMalformedError,
    InputUriUnsupportedError,
)
from jobs.models import JobInput
from jobs.services.submission import job_submit, jobs_submit
from jobs.submission.inputs import FetchPolicy, folder_uri_check, inputs_fetch
from people.outward import address_is_public
from tests.factories.jobs import descriptor_make, funded_researcher_make
from tests.factories.tls import certificate_write
from workers.protocol.digests import digest_of

HOST = "data.example.org"


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        match self.path:
            case "/set/a%20b.txt":
                self._send(200, b"hello")
            case "/set/moved.txt":
                self._send(302, b"", Location="/set/a%20b.txt")
            case "/set/away.txt":
                self._send(302, b"", Location="https://elsewhere.example.net/a")
            case "/set/plain.txt":
                self._send(302, b"", Location=f"http://{HOST}/a")
            case "/set/loop.txt":
                self._send(302, b"", Location="/set/loop.txt")
            case "/set/odd.txt":
                self._send(302, b"", Location="https://[/")
            case "/set/short.txt":
                self.send_response(200)
                self.send_header("Content-Length", "100")
                self.end_headers()
                self.wfile.write(b"only this")
            case _:
                self._send(404, b"")

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FetchPolicy]:
    """A policy whose one host is a TLS server of this test, on the loopback address."""
    pem = certificate_write(tmp_path_factory.mktemp("tls"), HOST)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    port = server.server_address[1]
    yield FetchPolicy(
        hosts=(f"{HOST}:{port}",),
        bytes_max=1000,
        ca_certificates=str(pem),
        address_allowed=lambda address: ipaddress.ip_address(address).is_loopback,
        resolve=lambda host, _: ["127.0.0.1"],
    )
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(policy: FetchPolicy, *files: str, uri: str = "") -> Any:
    return inputs_fetch(uri=uri or f"https://{policy.hosts[0]}/set/", paths=files, policy=policy)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["a b.txt", "moved.txt"], ids=["direct", "redirected on the list"])
def test_file_is_fetched_into_a_blob(policy: FetchPolicy, name: str) -> None:
    blob = fetch(policy, name)[name]
    with blob_open(blob.digest) as stored:
        assert stored.read() == b"hello"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "error", "code"),
    [
        ("absent.txt", InputUnreachableError, "input_unreachable"),
        ("loop.txt", InputUnreachableError, "input_unreachable"),
        ("short.txt", InputUnreachableError, "input_unreachable"),
        ("away.txt", InputHostNotAllowedError, "input_host_not_allowed"),
        ("plain.txt", InputHostNotAllowedError, "input_host_not_allowed"),
        ("odd.txt", InputHostNotAllowedError, "input_host_not_allowed"),
    ],
)
def test_file_that_cannot_be_had_has_its_code(policy: FetchPolicy, name: str, error: type[InputUnreachableError], code: str) -> None:
    with pytest.raises(error) as caught:
        fetch(policy, name)
    assert caught.value.code == code


@pytest.mark.django_db
def test_files_beyond_the_size_are_refused(policy: FetchPolicy) -> None:
    with pytest.raises(InputTooLargeError, match="8 bytes together"):
        fetch(replace(policy, bytes_max=8), "a b.txt", "moved.txt")


@pytest.mark.django_db
def test_file_beyond_the_time_is_refused(policy: FetchPolicy) -> None:
    with pytest.raises(InputUnreachableError, match="longer than 0 s"):
        fetch(replace(policy, seconds_max=0), "a b.txt")


@pytest.mark.django_db
def test_stated_digest_of_a_fetched_file_must_be_its_own(policy: FetchPolicy) -> None:
    owner = funded_researcher_make()
    fetched = {"input_uri": f"https://{policy.hosts[0]}/set/", "input_files": ["a b.txt"]}
    good = descriptor_make(**fetched, inputs=[{"path": "a b.txt", "digest": digest_of(b"hello")}])
    job, _ = job_submit(owner=owner, descriptor=descriptor_parse(good), policy=policy)
    assert [(each.path, each.blob_id) for each in job.inputs.all()] == [("a b.txt", digest_of(b"hello"))]
    other = descriptor_make(**fetched, inputs=[{"path": "a b.txt", "digest": digest_of(b"other")}])
    with pytest.raises(InputMismatchError) as caught:
        job_submit(owner=owner, descriptor=descriptor_parse(other), policy=policy)
    assert (caught.value.code, caught.value.extra["errors"][0]["path"]) == ("input_mismatch", "/inputs/0")


@pytest.mark.django_db
def test_file_that_many_jobs_of_an_array_name_is_fetched_once(policy: FetchPolicy) -> None:
    asked = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    template = descriptor_make(input_uri=f"https://{policy.hosts[0]}/set/", input_files=["a b.txt"])
    del template["job_id"]
    array = array_parse(json.dumps({"template": template, "items": [{"job_id": f"job-{n}"} for n in range(3)]}).encode())
    jobs = jobs_submit(owner=funded_researcher_make(), array=array, policy=replace(policy, resolve=resolve))
    assert [list(JobInput.objects.filter(job=job.id).values_list("blob", flat=True)) for job in jobs] == [[digest_of(b"hello")]] * 3
    assert len(asked) == 1


def test_certificate_of_another_name_is_refused(policy: FetchPolicy) -> None:
    port = policy.hosts[0].partition(":")[2]
    with pytest.raises(InputUnreachableError, match="SSLError"):
        fetch(replace(policy, hosts=(f"other.example.org:{port}",)), "a b.txt")


def test_certificate_nobody_vouches_for_is_refused(policy: FetchPolicy) -> None:
    with pytest.raises(InputUnreachableError, match="SSLError"):
        fetch(replace(policy, ca_certificates=None), "a b.txt")


def test_connection_goes_to_the_address_that_was_checked(policy: FetchPolicy) -> None:
    """A resolver that answers otherwise the second time is never asked a second time."""
    answers = iter([["127.0.0.1"]])
    with pytest.raises(InputUnreachableError, match="404"):
        fetch(replace(policy, resolve=lambda host, _: next(answers)), "absent.txt")


def test_one_private_address_among_public_ones_is_enough_to_refuse(policy: FetchPolicy) -> None:
    checked = replace(policy, address_allowed=address_is_public, resolve=lambda host, _: ["93.184.215.14", "10.0.0.1"])
    with pytest.raises(InputAddressPrivateError, match=r"10\.0\.0\.1") as caught:
        fetch(checked, "a b.txt")
    assert caught.value.code == "input_address_not_public"


def test_host_off_the_list_is_refused_before_it_is_resolved(policy: FetchPolicy) -> None:
    def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("resolved")

    with pytest.raises(InputHostNotAllowedError):
        fetch(replace(policy, hosts=("other.example.org",), resolve=resolve), "a", uri="https://data.example.org/")


def test_loopback_is_refused_by_the_policy_of_the_settings() -> None:
    policy = replace(FetchPolicy.from_settings(), hosts=("localhost",))
    assert FetchPolicy.from_settings().hosts == tuple(django_settings.NEXA_INPUT_HOSTS)
    with pytest.raises(InputAddressPrivateError):
        fetch(policy, "a", uri="https://localhost/")


def test_name_without_an_address_is_unreachable() -> None:
    with pytest.raises(InputUnreachableError, match="has no address"):
        fetch(replace(FetchPolicy.from_settings(), hosts=("no-such-host.invalid",)), "a", uri="https://no-such-host.invalid/")


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("s3://bucket/x/", InputUriUnsupportedError),
        ("ipfs://cid/", InputUriUnsupportedError),
        ("http://data.example.org/", InputUriUnsupportedError),
        ("file:///etc/", InputUriUnsupportedError),
        ("folder", InputUriUnsupportedError),
        ("https://data.example.org/x", InputUriMalformedError),
        ("https:///x/", InputUriMalformedError),
        ("https://me:secret@data.example.org/", InputUriMalformedError),
        ("https://data.example.org/?a=/", InputUriMalformedError),
        ("https://data.example.org/#/", InputUriMalformedError),
        ("https://data.example.org:99999/", InputUriMalformedError),
        ("https://[/", InputUriMalformedError),
        ("https://dätä.example.org/", InputUriMalformedError),
    ],
)
def test_address_of_another_kind_is_refused(uri: str, error: type[InputUriMalformedError]) -> None:
    with pytest.raises(error) as caught:
        folder_uri_check(uri)
    assert caught.value.code in ("input_uri_unsupported", "input_uri_malformed")
