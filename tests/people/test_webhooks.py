"""Webhooks: signed, bounded, tried again, and no way into the portal's own network."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.utils import timezone

from people.errors import WebhookUrlInvalidError
from people.models import User
from people.notifications import delivery
from people.notifications.beside import DeliveryThread
from people.notifications.delivery import DeliveryError, DeliveryPolicy, deliveries_run, post
from people.notifications.models import Notification, NotificationKind, Webhook, WebhookDelivery
from people.notifications.services import Draft, notifications_write
from people.notifications.webhooks import webhook_remove, webhook_secret, webhook_set, webhook_url_check
from tests.factories.people import user_make
from tests.factories.tls import certificate_write

HOST = "hooks.example.org"


class _Hooks(BaseHTTPRequestHandler):
    """Answers by path; what it was sent is in `server.got`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.got.append((self.path, dict(self.headers), body))
        match self.path.split("?")[0]:
            case "/moved":
                self._send(302, Location="https://127.0.0.1/")
            case "/broken":
                self._send(500)
            case "/drip":
                while not server.ended.wait(0.05):
                    self.wfile.write(b"H")
            case "/endless":
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"x" * 2**20)
            case _:
                self._send(204)

    def _send(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    got: list[tuple[str, dict[str, str], bytes]]
    ended: threading.Event

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what some tests are about."""


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Server]:
    pem = certificate_write(tmp_path_factory.mktemp("tls"), HOST)
    hooks = _Server(("127.0.0.1", 0), _Hooks)
    hooks.got, hooks.ended = [], threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    hooks.socket = context.wrap_socket(hooks.socket, server_side=True)
    hooks.pem = str(pem)  # type: ignore[attr-defined]
    thread = threading.Thread(target=hooks.serve_forever)
    thread.start()
    yield hooks
    hooks.ended.set()
    hooks.shutdown()
    thread.join()
    hooks.server_close()


@pytest.fixture
def policy(server: Any) -> DeliveryPolicy:
    return DeliveryPolicy(
        ca_certificates=server.pem,
        address_allowed=lambda address: ipaddress.ip_address(address).is_loopback,
        resolve=lambda host, _: ["127.0.0.1"],
    )


def url_of(server: _Server, path: str = "/hook") -> str:
    return f"https://{HOST}:{server.server_address[1]}{path}"


def told(owner: User, key: str = "job:1") -> None:
    kind = NotificationKind.JOB_FAILED
    notifications_write([Draft(owner.pk, kind, key, "fold-1: failed", "/jobs/", "No host took it.", {"jobs": [{"id": "1"}]})])


@pytest.mark.django_db
def test_a_delivery_is_signed_and_says_what_happened(server: _Server, policy: DeliveryPolicy) -> None:
    owner = user_make()
    _, secret = webhook_set(owner=owner, url=url_of(server, "/hook?of=me"))
    told(owner)
    assert deliveries_run(policy=policy) == 1
    ((path, headers, body),) = server.got
    assert path == "/hook?of=me"
    assert headers["Host"] == f"{HOST}:{server.server_address[1]}"
    signed = headers["Nexa-Timestamp"].encode() + b"." + body
    assert headers["Nexa-Signature"] == "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    assert abs(int(headers["Nexa-Timestamp"]) - time.time()) < 60
    document = json.loads(body)
    assert (document["kind"], document["subject"], document["data"]) == ("job.failed", "fold-1: failed", {"jobs": [{"id": "1"}]})
    assert document["url"] == "http://testserver/jobs/"
    row = WebhookDelivery.objects.get()
    assert (row.status, row.error, row.next_at) == (204, "", None)
    assert row.delivered_at is not None
    assert deliveries_run(policy=policy) == 0


@pytest.mark.django_db
def test_the_secret_is_in_no_row_and_a_new_one_comes_with_each_setting(server: _Server) -> None:
    owner = user_make()
    _, first = webhook_set(owner=owner, url=url_of(server))
    webhook, second = webhook_set(owner=owner, url=url_of(server))
    assert first != second
    assert webhook_secret(webhook) == second
    stored = " ".join(str(bytes(value) if isinstance(value, memoryview) else value) for value in Webhook.objects.values_list().get())
    assert second not in stored
    assert second.removeprefix("nexa_whs_") not in stored


@pytest.mark.parametrize(
    ("path", "code", "status"), [("/moved", "redirect_refused", 302), ("/broken", "status_not_ok", 500), ("/drip", "unreachable", None)]
)
def test_an_attempt_that_fails_has_a_code(server: _Server, policy: DeliveryPolicy, path: str, code: str, status: int | None) -> None:
    began = time.monotonic()
    with pytest.raises(DeliveryError) as caught:
        post(url=url_of(server, path), secret="s", body=b"{}", policy=replace(policy, timeout_seconds=1.0))
    assert (caught.value.code, caught.value.status) == (code, status)
    assert time.monotonic() - began < 4
    assert [request[0] for request in server.got] == [path]  # a redirect was not followed


def test_an_answer_of_any_size_is_not_read(server: _Server, policy: DeliveryPolicy) -> None:
    assert post(url=url_of(server, "/endless"), secret="s", body=b"{}", policy=policy) == 200


def test_a_certificate_of_another_name_is_refused(server: _Server, policy: DeliveryPolicy) -> None:
    with pytest.raises(DeliveryError, match="unreachable"):
        post(url=url_of(server).replace(HOST, "other.example.org"), secret="s", body=b"{}", policy=policy)
    assert server.got == []


INNER = (
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.9.9", "192.168.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"),
    *("::127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:db8::1", "0.0.0.0"),  # noqa: S104  never bound, only refused
)


@pytest.mark.parametrize("address", INNER)
@pytest.mark.parametrize("beside", [[], ["93.184.215.14"]], ids=["alone", "beside a public one"])
def test_an_inner_address_is_not_connected_to(address: str, beside: list[str]) -> None:
    inner = DeliveryPolicy(resolve=lambda host, port: [*beside, address])
    with pytest.raises(DeliveryError, match="address_not_public"):
        post(url="https://hooks.example.org/", secret="s", body=b"{}", policy=inner)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "2130706433", "0x7f.1", "localhost"])
def test_an_inner_address_written_into_the_url_is_not_connected_to(host: str) -> None:
    with pytest.raises(DeliveryError, match=r"address_not_public|host_unknown"):
        post(url=f"https://{host}/", secret="s", body=b"{}", policy=DeliveryPolicy())


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(server: _Server, policy: DeliveryPolicy) -> None:
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    assert post(url=url_of(server), secret="s", body=b"{}", policy=replace(policy, resolve=lambda *_: next(answers))) == 204
    assert next(answers) == ["10.0.0.1"]


def test_a_name_without_an_address_has_its_code() -> None:
    for nothing in (DeliveryPolicy(), DeliveryPolicy(resolve=lambda *_: [])):
        with pytest.raises(DeliveryError, match=r"host_unknown|address_not_public"):
            post(url="https://no-such-host.invalid/", secret="s", body=b"{}", policy=nothing)


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.org/", "ftp://hooks.example.org/", "file:///etc/passwd", "hooks.example.org", "", "https:///x"),
        *("https://me:secret@hooks.example.org/", "https://me@hooks.example.org/", "https://hooks.example.org/#x", "https://[/"),
        *(
            "https://hooks.example.org:99999/",
            "https://hooks.example.org:0/",
            "https://hooks.example.org/a b",
            "https://hööks.example.org/",
        ),
        *("https://hooks.example.org/\r\nX: y", "https://hooks.example.org/" + "x" * 500),
    ],
)
def test_an_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(WebhookUrlInvalidError):
        webhook_url_check(url)


@pytest.mark.django_db
def test_what_fails_is_tried_again_later_and_given_up(server: _Server, policy: DeliveryPolicy) -> None:
    owner = user_make()
    webhook_set(owner=owner, url=url_of(server, "/broken"))
    told(owner)
    now, waits = timezone.now(), []
    for _ in range(delivery.ATTEMPTS_MAX):
        assert deliveries_run(policy=policy, now=now) == 1
        assert deliveries_run(policy=policy, now=now) == 0
        row = WebhookDelivery.objects.get()
        if row.next_at:
            waits.append((row.next_at - timezone.now()).total_seconds())
            now = row.next_at
    assert [round(wait / 30) for wait in waits] == [1, 4, 16, 64, 256, 1024]
    assert (row.attempts, row.next_at, row.delivered_at, row.error, row.status) == (7, None, None, "status_not_ok", 500)


@pytest.mark.django_db
def test_a_webhook_that_keeps_failing_is_switched_off_and_its_owner_told(server: _Server, policy: DeliveryPolicy) -> None:
    owner = user_make()
    webhook_set(owner=owner, url=url_of(server, "/broken"))
    Webhook.objects.update(failures=delivery.FAILURES_MAX - 1)
    told(owner)
    deliveries_run(policy=policy)
    assert Webhook.objects.get().disabled_at is not None
    assert Notification.objects.get(kind=NotificationKind.WEBHOOK).owner == owner
    later = timezone.now() + timedelta(days=1)
    assert deliveries_run(policy=policy, now=later) == 0
    webhook_set(owner=owner, url=url_of(server))
    assert deliveries_run(policy=policy, now=later) == 1
    assert Webhook.objects.get().failures == 0


@pytest.mark.django_db
def test_a_removed_webhook_is_sent_nothing(server: _Server, policy: DeliveryPolicy) -> None:
    owner = user_make()
    webhook_set(owner=owner, url=url_of(server))
    told(owner)
    webhook_remove(owner=owner)
    assert deliveries_run(policy=policy) == 0
    assert server.got == []


@pytest.mark.django_db
def test_a_run_ends_when_its_time_is_over(server: _Server, policy: DeliveryPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "RUN_SECONDS", 0.0)
    owner = user_make()
    webhook_set(owner=owner, url=url_of(server))
    told(owner)
    assert deliveries_run(policy=policy) == 0


def test_a_receiver_that_is_slow_keeps_nobody_waiting(server: _Server, policy: DeliveryPolicy, own_database: str) -> None:
    owner = user_make()
    webhook_set(owner=owner, url=url_of(server, "/drip"))
    told(owner)
    ended = threading.Event()

    def run() -> None:
        deliveries_run(policy=replace(policy, timeout_seconds=60))
        ended.set()

    deliveries = DeliveryThread("webhooks", run)
    assert deliveries.start()
    assert not deliveries.start()
    assert not WebhookDelivery.objects.exclude(error="").exists()  # it drips, and the worker goes on
    server.ended.set()
    assert ended.wait(60)
    assert WebhookDelivery.objects.get().error == "unreachable"


def test_a_run_that_fails_is_followed_by_another(own_database: str) -> None:
    calls: list[int] = []
    again = threading.Event()

    def run() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("the database is away")
        again.set()

    deliveries = DeliveryThread("webhooks", run)
    give_up_at = time.monotonic() + 60
    while len(calls) < 2 and time.monotonic() < give_up_at:
        deliveries.start()
        again.wait(0.02)
    assert again.wait(60)


@pytest.mark.django_db
def test_each_webhook_has_its_turn_before_one_has_another(server: _Server, policy: DeliveryPolicy) -> None:
    busy, quiet = user_make(), user_make()
    for owner, path in ((busy, "/busy"), (quiet, "/quiet")):
        webhook_set(owner=owner, url=url_of(server, path))
    for number in range(3):
        told(busy, f"job:{number}")
    told(quiet)
    assert deliveries_run(policy=policy) == 4
    assert [path for path, *_ in server.got] == ["/busy", "/quiet", "/busy", "/busy"]
