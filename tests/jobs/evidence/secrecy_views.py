"""Everything that somebody outside can ask of the portal about jobs, and what they are answered, as one comparable text each.

`ANSWERS_NOTHING` says of every other route why it is not asked; a test holds both against the routes that there are.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from jobs.live import overview
from jobs.models import Job
from jobs.services.outbox import FLEET_GROUP, job_group, outbox_push
from people.models import User
from tests.factories.people import token_header
from tests.factories.receipts import archive_make
from tests.jobs.gateway.simulated_host import SimulatedHost, body_of

ASKED: Final = frozenset(
    {
        "home", "status", "status-v1", "jobs-page", "job-page", "job-fragment", "jobs", "job", "job-replicas", "job-events", "job-bundle",
        "submit-job", "submit-job-v1", "blob", "uploads", "exchange", "receipts", "nodes", "node", "nodes-page", "account",
        "account-statement", "ledger-checkpoint", "ledger-entries", "ledger-export", "ledger-page", "jobs-rows", "job-runs", "job-retry",
        "job-visibility", "job-shared", "node-page", "node-fragment",
        "bank-page", "bank-statement", "wall-page", "wall", "job-clone", "notifications",
        "ledger-checkpoints-page",
        "job-results", "job-results-archive", "job-result-file", "job-result-bytes",
        "job-result-image", "job-result-atoms",
    }
)  # fmt: skip
ANSWERS_NOTHING: Final = {
    "healthz": "that the process answers",
    "metrics": "numbers over all jobs, and to nobody who comes through the proxy",
    "readyz": "which of the portal's dependencies are well",
    "account-delete": "that jobs are open, to their owner",
    "bank-give": "the person's balance, as the bank's page does, and whose an account is, of people who show themselves",
    "account-page": "the person's own data, and none of a job",
    "account-profile": "the person's own data, and none of a job",
    "account-research": "the person's own data, and none of a job",
    "account-team": "the person's own data, and none of a job",
    "account-tokens": "the person's own data, and none of a job",
    "invitation": "leads to the form by which one signs up",
    "notification-settings": "the person's own data, and none of a job",
    "account-session-end": "changes what is the person's own",
    "account-token-revoke": "changes what is the person's own",
    "notification-settings-save": "changes what is the person's own",
    "notifications-read": "changes what is the person's own",
    "team-invitation": "changes what is the person's own",
    "team-join": "changes what is the person's own",
    "team-leave": "changes what is the person's own",
    "team-remove": "changes what is the person's own",
    "webhook-remove": "changes what is the person's own",
    "webhook-save": "changes what is the person's own",
    "browser-uploads": "as `uploads`",
    "browser-upload": "as `uploads`",
    "images-page": "approved images, and the person's own requests",
    "new-job": "a form",
    "new-job-check": "about a document that one sends",
    "new-job-edit": "about a document that one sends",
    "docs": "the documentation",
    "docs-api": "the documentation",
    "docs-page": "the documentation",
    "live": "cached for all viewers: tests/jobs/live/ compare what it is made of",
    "live-fragment": "as `live`",
    "contributor-page": "about what `wall` counts",
    "design": "shows components with invented content, and reads nothing",
    "favicon": "names the mark's file, and reads nothing",
    "register": "makes a node",
    "register-v1": "makes a node",
    "coordinator": "the portal's key",
    "join-tokens": "makes a token",
    "join-page": "makes a token",
    "join-watch-page": "about a token, and the first of the runs that `node-page` lists",
    "join-fragment": "as `join-watch-page`",
    "node-act": "changes a node, and leads to `node-page`",
    "node-revoke-page": "ends a node",
    "node-drain": "changes a node, and answers like `node`",
    "node-key": "changes a key",
    "node-leave": "ends a node",
    "node-revoke": "ends a node",
    "node-pause": "changes a node, and answers like `node`",
    "node-resume": "changes a node, and answers like `node`",
    "jobs-array": "makes jobs",
    "jobs-estimate": "about a descriptor, not a job",
    "jobs-act": "ends jobs, as `job-cancel` does, or moves them between list and archive",
    "job-evidence": "nothing before the conclusion, of any replica; test_evidence_pages.py asks",
    "job-cancel": "ends the job, after which all that was judged is shown",
    "descriptor-schema": "a fixed document",
    "openapi": "a fixed document",
    "upload": "an upload that its uploader has begun; the id of another's is as unknown as one that is none",
    "me": "about the caller",
    "tokens": "about the caller",
    "token": "about the caller",
    "ledger-proof-inclusion": "about leaves that `ledger-entries` lists",
    "ledger-proof-consistency": "about leaves that `ledger-entries` lists",
    "ledger-tile": "about leaves that `ledger-entries` lists",
    "ledger-epochs": "about the log, not about jobs",
    "ledger-export-csv": "the leaves that `ledger-export` gives, in another form",
    "ledger-entry-page": "about leaves that `ledger-entries` lists",
}

_RESULT_VIEWS: Final = ("files", "bytes", "image", "atoms")
_STRIPPED: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|\+00:00| UTC)?"), "TIME"),
    (re.compile(r"(<time[^>]*>)[^<]*"), r"\1WORDS"),
    (re.compile(r"\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r'"(id|next|oldest_wait_seconds|after)": ?(\d+(\.\d+)?(e-\d+)?)'), r'"\1": NUMBER'),
    (re.compile(r"(oldest|waits|for) (\d+ (s|min|h|d)( \d+ (s|min|h))?|just now)"), r"\1 SPAN"),
    (re.compile(r'name="csrfmiddlewaretoken" value="[^"]*"'), "CSRF"),
    (re.compile(r'"X-CSRFToken": "[^"]*"'), "CSRF"),
    (re.compile(r'name="id" value="\d+"'), "NUMBER"),
    (re.compile(r"/uploads/[0-9a-f-]{36}"), "/uploads/ID"),
)


@dataclass
class Watch:
    """Who watches: the job's owner, the host of one of its replicas, another host with a slot free, and a stranger who is signed in."""

    job: Job
    host: SimulatedHost
    other_host: SimulatedHost
    stranger: User
    lease_id: uuid.UUID | None = None
    secrets: list[str] = field(default_factory=list)
    """Digests of what another replica may deliver, known to the watchers before."""


def secrets_of(files: dict[str, bytes]) -> list[str]:
    """The digests that a result of these files has, whoever makes it."""
    _, info = archive_make(files)
    return [info.digest, info.result_digest]


def snapshot(watch: Watch) -> dict[str, str]:
    """Each question and its answer, times and numbers of rows taken out."""
    _overview_forget()
    answers = dict(_pushed(watch))
    answers.update(_people(watch))
    answers.update(_hosts(watch))
    return answers


def statements_of(ask: Callable[[], Any]) -> list[str]:
    """The statements that an answer took, values taken out: what takes the same way takes the same time."""
    _overview_forget()
    with CaptureQueriesContext(connection) as queries:
        ask()
    return [re.sub(r"'[^']*'|\"s\d+_x\d+\"|\b\d+\b", "?", query["sql"]) for query in queries.captured_queries]


def _overview_forget() -> None:
    """Whoever asks may be the one for whom it is made."""
    overview.portal.forget()
    overview.tiers.forget()


def _people(watch: Watch) -> Iterator[tuple[str, str]]:
    job = watch.job
    descriptor = json.dumps(job.descriptor)
    who_asks = (("owner", job.owner), ("host's owner", watch.host.node.owner), ("stranger", watch.stranger), ("anybody", None))
    for who, user in who_asks:
        client, headers = Client(), token_header(user) if user else {}
        if user is not None:
            client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        pages = ["/", "/jobs/", f"/jobs/{job.pk}/", f"/jobs/{job.pk}/fragment/", "/nodes/", "/ledger/"]
        pages += [f"/jobs/rows/?row={job.pk}:0", f"/jobs/{job.pk}/runs/", f"/jobs/{job.pk}/visibility/"]
        pages += [f"/jobs/{job.pk}/retry/", "/jobs/shared/unknown/", "/jobs/?q=job&type=test&tier=cpu", "/jobs/?archived=yes"]
        pages += [f"/nodes/{watch.host.node.pk}/", f"/nodes/{watch.host.node.pk}/fragment/"]
        pages += [f"/jobs/{job.pk}/results/{part}" for part in ("", "archive/", *(f"{view}/summary.json" for view in _RESULT_VIEWS))]
        pages += [
            "/bank/",
            "/bank/statement.csv",
            "/wall/",
            "/api/v1/wall",
            "/notifications/",
            "/ledger/checkpoints/",
            f"/jobs/{job.pk}/clone/",
        ]
        states = ("queued", "running", "verifying", "disputed") if who == "owner" else ()
        pages += [f"/jobs/?state={state}" for state in states]
        rest = ["/status", "/api/v1/status", "/api/v1/ledger/checkpoint", "/api/v1/ledger/entries", "/api/v1/ledger/export"]
        if user is not None:  # nobody else gets beyond the door of these
            rest += ["/api/v1/jobs", f"/api/v1/jobs/{job.pk}", "/api/v1/nodes", f"/api/v1/nodes/{watch.host.node.pk}"]
            rest += [f"/api/v1/jobs/{job.pk}/{part}" for part in ("replicas", "events", "bundle")]
            rest += ["/api/v1/account", "/api/v1/account/statement"]
        rest += [f"/api/v1/jobs?state={state}" for state in states]
        for path in pages:
            yield f"{who} page {path}", _text(client.get(path))
        for path in rest:
            yield f"{who} GET {path}", _text(client.get(path, headers=headers))
        for digest in watch.secrets:
            blob, upload = f"/api/v1/blobs/{digest}", upload_of(client, digest, headers)
            yield f"{who} GET {blob}", _text(client.get(blob, headers=headers))
            yield f"{who} HEAD {blob}", _text(client.head(blob, headers=headers))
            yield f"{who} POST uploads {digest}", _text(upload())
        for path in ("/submit-job", "/api/v1/submit-job"):
            yield f"{who} POST {path}", _text(client.post(path, descriptor, content_type="application/json", headers=headers))


def _hosts(watch: Watch) -> Iterator[tuple[str, str]]:
    for who, host, lease_id in (("host", watch.host, watch.lease_id), ("other host", watch.other_host, None)):
        for digest in watch.secrets:
            yield f"{who} GET blob {digest}", _text(host.send("GET", f"/api/v1/blobs/{digest}"))
            yield f"{who} HEAD blob {digest}", _text(host.send("HEAD", f"/api/v1/blobs/{digest}"))
            yield f"{who} POST uploads {digest}", _text(host.upload_create(lease_id, digest, 100))
            yield f"{who} POST uploads for a lease that it has not", _text(host.upload_create(uuid.UUID(int=5), digest, 100))
        reports = [] if lease_id is None else [{"lease_id": str(lease_id), "stage": "running", "elapsed_seconds": 1.0}]
        for slots in (
            (0, 1) if who == "host" else (0,)
        ):  # a host with a slot and no replica of the job is given one: that is what a queue is for
            answer = host.exchange(slots=slots, leases=reports, request_id=str(uuid.UUID(int=slots + 1))).json()
            yield f"{who} exchange with {slots} slots", _stripped(json.dumps(answer, sort_keys=True))


def upload_of(client: Client, digest: str, headers: dict[str, str]) -> Callable[[], Any]:
    metadata = f"digest {base64.b64encode(digest.encode()).decode()}"
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "100", "Upload-Metadata": metadata}
    return lambda: client.post("/api/v1/uploads", b"", content_type="application/octet-stream", headers={**headers, **tus})


def _pushed(watch: Watch) -> Iterator[tuple[str, str]]:
    """What sockets have been sent. Run once for all: it is the outbox's doing, not the watcher's."""
    layer: Any = get_channel_layer()
    groups = {"owner's socket": job_group(watch.job.pk), "fleet's socket": FLEET_GROUP}

    async def join() -> None:
        for name, group in groups.items():
            await layer.group_add(group, name.replace(" ", "-").replace("'", ""))

    async def drain(channel: str) -> list[Any]:
        return [await layer.receive(channel) for _ in range(layer.channels[channel].qsize() if channel in layer.channels else 0)]

    async_to_sync(join)()
    outbox_push()
    for name in groups:
        yield name, _stripped(json.dumps(async_to_sync(drain)(name.replace(" ", "-").replace("'", ""))))


def _text(response: Any) -> str:
    body = body_of(response) if getattr(response, "is_async", False) and response.streaming else _content(response)
    drawn = ("Content-Length", "Set-Cookie", "ETag", "X-Request-Id")  # by lot for each request, or follow from the text
    headers = {name: value for name, value in response.headers.items() if name not in drawn}
    return _stripped(f"{response.status_code} {sorted(headers.items())}\n{body.decode(errors='replace')}")


def _content(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else bytes(response.content)


def _stripped(text: str) -> str:
    for pattern, instead in _STRIPPED:
        text = pattern.sub(instead, text)
    return text
