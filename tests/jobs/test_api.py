"""REST of jobs through HTTP: answers, codes, and who may see and do what."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from jobs.models import Evidence, Job, JobEvent, Replica, UnpushedEvents
from jobs.services.transitions import event_record
from jobs.states import JobState, ReplicaState
from people.models import Scope, User
from tests.factories.jobs import descriptor_make, funded_researcher_make, job_make
from tests.factories.nodes import node_make
from tests.factories.people import token_header, user_make

pytestmark = pytest.mark.django_db
JOBS = "/api/v1/jobs"
READS = ["", "/replicas", "/events", "/bundle"]


def post(client: Client, path: str, document: Any, headers: dict[str, str]) -> Any:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return client.post(path, body, content_type="application/json", headers=headers)


@pytest.mark.parametrize("path", ["/submit-job", "/api/v1/submit-job", JOBS])
def test_submission_answers_201_then_200_then_409(client: Client, path: str) -> None:
    owner = funded_researcher_make()
    headers = token_header(owner, [Scope.JOBS_WRITE])
    document = descriptor_make()
    first = post(client, path, document, headers)
    assert first.status_code == 201, first.json()
    assert first["Location"] == f"{JOBS}/{first.json()['id']}"
    assert (first.json()["job_id"], first.json()["state"]) == (document["job_id"], "queued")
    again = post(client, path, document, headers)
    assert (again.status_code, again.json()) == (200, first.json())
    other = post(client, path, {**document, "title": "x"}, headers)
    assert (other.status_code, other.json()["code"]) == (409, "label_conflict")
    assert other["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "descriptor_invalid"),
        (b"{", 422, "descriptor_invalid"),
        (b"[]", 422, "descriptor_invalid"),
        (b'{"a": "' + b"x" * 600_000 + b'"}', 422, "descriptor_invalid"),
        (descriptor_make(docker_image="Not An Image"), 422, "image_malformed"),
        (descriptor_make(docker_image="other/image:1"), 403, "image_not_approved"),
        (descriptor_make(input_uri="ipfs://x/", input_files=["a"]), 422, "input_uri_unsupported"),
        (descriptor_make(input_uri="https://evil.example.net/", input_files=["a"]), 403, "input_host_not_allowed"),
        (descriptor_make(inputs=[{"path": "a", "digest": "sha256:" + "0" * 64}]), 422, "input_unknown"),
        (descriptor_make(tier=1, requirements={"vram_gb": 30}), 422, "requirements_impossible"),
        (descriptor_make(estimated_flops=1e22), 402, "credits_insufficient"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_submission_refused_has_its_code(client: Client, body: Any, status: int, code: str) -> None:
    answer = post(client, JOBS, body, token_header(funded_researcher_make()))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Job.objects.exists()


def test_submission_needs_a_researcher_a_scope_and_a_credential(client: Client) -> None:
    assert post(client, JOBS, descriptor_make(), token_header(user_make())).json()["code"] == "researcher_required"
    assert post(client, JOBS, descriptor_make(), token_header(funded_researcher_make(), [Scope.JOBS_READ])).status_code == 403
    assert post(client, JOBS, descriptor_make(), {}).status_code == 401
    wrong = post(client, JOBS, descriptor_make(), {"Authorization": "Bearer nexa_wrong"})
    assert wrong.status_code == 401
    assert client.post(JOBS, "a=1", content_type="text/plain", headers=token_header(funded_researcher_make())).status_code == 415


@pytest.mark.parametrize("path", READS)
def test_job_is_its_owners_alone_to_read(client: Client, path: str) -> None:
    owner = funded_researcher_make()
    job = job_make(owner)
    url = f"{JOBS}/{job.pk}{path}"
    own = client.get(url, headers=token_header(owner, [Scope.JOBS_READ]))
    assert own.status_code == (409 if path == "/bundle" else 200)
    stranger = token_header(funded_researcher_make())
    theirs, missing = client.get(url, headers=stranger), client.get(f"{JOBS}/{uuid4()}{path}", headers=stranger)
    assert theirs.status_code == missing.status_code == 404
    assert theirs.json() == missing.json()
    assert client.get(url).status_code == 401
    assert client.get(url, headers=token_header(owner, [Scope.JOBS_WRITE])).status_code == 403


def test_job_is_its_owners_alone_to_cancel(client: Client) -> None:
    owner = funded_researcher_make()
    job = job_make(owner)
    url = f"{JOBS}/{job.pk}/cancel"
    assert client.post(url, headers=token_header(funded_researcher_make())).status_code == 404
    assert client.post(url).status_code == 401
    assert client.post(url, headers=token_header(owner, [Scope.JOBS_READ])).status_code == 403
    assert Job.objects.get().state == JobState.QUEUED
    answer = client.post(url, headers=token_header(owner, [Scope.JOBS_WRITE]))
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    Job.objects.update(state=JobState.FAILED)
    assert client.post(url, headers=token_header(owner)).json()["code"] == "job_concluded"


def test_list_holds_ones_own_jobs_newest_first_in_pages(client: Client) -> None:
    owner = funded_researcher_make()
    made = [str(job_make(owner).pk) for _ in range(5)]
    job_make()
    headers = token_header(owner, [Scope.JOBS_READ])
    found: list[str] = []
    before: str | None = ""
    for _ in range(3):
        query = {"limit": "2", "before": before} if before else {"limit": "2"}
        page = client.get(JOBS, query, headers=headers).json()
        found += [job["id"] for job in page["jobs"]]
        before = page["next"]
    assert before is None
    assert found == made[::-1]
    assert client.get(JOBS).status_code == 401
    assert client.get(JOBS, headers=token_header(owner, [Scope.NODES_READ])).status_code == 403


def test_list_filters_by_state_and_label(client: Client) -> None:
    owner = funded_researcher_make()
    first, second = job_make(owner), job_make(owner)
    Job.objects.filter(pk=second.pk).update(state=JobState.RUNNING)
    headers = token_header(owner)
    assert [job["id"] for job in client.get(JOBS, {"state": "running"}, headers=headers).json()["jobs"]] == [str(second.pk)]
    assert [job["id"] for job in client.get(JOBS, {"job_id": first.label}, headers=headers).json()["jobs"]] == [str(first.pk)]


@pytest.mark.parametrize(
    "query",
    [
        {"state": "odd"},
        {"limit": "0"},
        {"limit": "x"},
        {"before": "x"},
        {"before": "é"},
        {"before": "MXwy"},
        {"job_id": "\0"},
        {"odd": "1"},
    ],
)
def test_list_refuses_an_unreadable_query(client: Client, query: dict[str, str]) -> None:
    answer = client.get(JOBS, query, headers=token_header(funded_researcher_make()))
    assert (answer.status_code, answer.json()["code"]) == (400, "query_invalid")


def _leased(owner: User) -> tuple[Job, Replica]:
    job = job_make(owner)
    node, _ = node_make(user_make(), name="quiet-heron")
    replica = job.replicas.get()
    report = {"stage": "running", "progress": 0.4, "message": "annealing", "elapsed_seconds": 3.0}
    values = {"state": ReplicaState.RUNNING, "node": node, "node_owner": node.owner, "lease_id": uuid4(), "progress": report}
    Replica.objects.filter(pk=replica.pk).update(**values)
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING)
    return job, replica


def test_replica_shows_its_progress_and_hides_its_result_until_the_job_is_concluded(client: Client) -> None:
    owner = funded_researcher_make()
    job, replica = _leased(owner)
    secret = "sha256:" + "c" * 64
    Replica.objects.filter(pk=replica.pk).update(verdict="agree", order_digest=secret, failure_code="exit_nonzero", failure_message=secret)
    Evidence.objects.create(replica=replica, check_name="archive", passed=True, detail={"digest": secret})
    headers = token_header(owner)
    url = f"{JOBS}/{job.pk}/replicas"
    for state in (JobState.RUNNING, JobState.VERIFYING, JobState.DISPUTED):
        Job.objects.filter(pk=job.pk).update(state=state)
        answer = client.get(url, headers=headers)
        shown = answer.json()["replicas"][0]
        assert (shown["node"], shown["progress"]["progress"], shown["result"]) == ("quiet-heron", 0.4, None)
        for hidden in (secret, "agree", "exit_nonzero"):
            assert hidden not in answer.content.decode()
    Job.objects.filter(pk=job.pk).update(state=JobState.COMPLETED, concluded_at=timezone.now())
    Replica.objects.filter(pk=replica.pk).update(state=ReplicaState.ACCEPTED)
    result = client.get(url, headers=headers).json()["replicas"][0]["result"]
    assert (result["verdict"], result["order_digest"], result["evidence"][0]["detail"]) == ("agree", secret, {"digest": secret})


@pytest.mark.parametrize("state", [ReplicaState.ACCEPTED, ReplicaState.REJECTED])
def test_verdict_does_not_show_in_the_state_of_a_replica_of_an_open_job(client: Client, state: ReplicaState) -> None:
    owner = funded_researcher_make()
    job, replica = _leased(owner)
    Replica.objects.filter(pk=replica.pk).update(state=state)
    shown = client.get(f"{JOBS}/{job.pk}/replicas", headers=token_header(owner)).json()["replicas"][0]
    assert shown["state"] == "reported"


def test_detail_hides_the_verdict_of_an_open_job(client: Client) -> None:
    owner = funded_researcher_make()
    job = job_make(owner)
    Job.objects.filter(pk=job.pk).update(verdict_summary={"agreeing": 1}, canonical_replica=job.replicas.get())
    headers = token_header(owner)
    shown = client.get(f"{JOBS}/{job.pk}", headers=headers).json()
    assert (shown["verdict"], shown["canonical_replica"]) == (None, None)
    Job.objects.filter(pk=job.pk).update(state=JobState.COMPLETED)
    assert client.get(f"{JOBS}/{job.pk}", headers=headers).json()["verdict"] == {"agreeing": 1}


def test_events_continue_behind_the_last_and_hide_what_is_not_public(client: Client) -> None:
    owner = funded_researcher_make()
    job = job_make(owner)
    event_record(job=job, kind="hidden", public=False)
    event_record(job=job, kind="shown")
    headers = token_header(owner)
    url = f"{JOBS}/{job.pk}/events"
    first = client.get(url, {"limit": 1}, headers=headers).json()
    assert [event["kind"] for event in first["events"]] == ["job.queued"]
    rest = client.get(url, {"after": first["next"]}, headers=headers).json()
    assert [event["kind"] for event in rest["events"]] == ["shown"]
    assert client.get(url, {"after": rest["next"]}, headers=headers).json() == {"events": [], "next": rest["next"]}
    Job.objects.filter(pk=job.pk).update(state=JobState.FAILED)
    assert [event["kind"] for event in client.get(url, headers=headers).json()["events"]] == ["job.queued", "hidden", "shown"]
    assert client.get(url, {"after": "-1"}, headers=headers).json()["code"] == "query_invalid"


def test_replicas_are_read_in_a_fixed_number_of_statements(
    client: Client, django_assert_max_num_queries: Callable[[int], DjangoAssertNumQueries]
) -> None:
    owner = funded_researcher_make()
    job = job_make(owner, verification={"copies": 9, "quorum": 2})
    headers = token_header(owner)
    with django_assert_max_num_queries(8):  # type: ignore[attr-defined]
        assert len(client.get(f"{JOBS}/{job.pk}/replicas", headers=headers).json()["replicas"]) == 9


def test_bundle_of_an_open_job_is_not_there_yet(client: Client) -> None:
    owner = funded_researcher_make()
    answer = client.get(f"{JOBS}/{job_make(owner).pk}/bundle", headers=token_header(owner))
    assert (answer.status_code, answer.json()["code"]) == (409, "result_unavailable")


def test_estimate_says_the_cost_and_writes_nothing(client: Client) -> None:
    url = f"{JOBS}/estimate"
    document = descriptor_make(verification={"copies": 2, "quorum": 2})
    answer = post(client, url, document, token_header(user_make(), [Scope.JOBS_READ]))
    assert answer.json() == {"reserved_micro": "16000", "expected_micro": "2000", "replicas_max": 4}
    assert post(client, url, document, {}).status_code == 401
    assert post(client, url, document, token_header(user_make(), [Scope.JOBS_WRITE])).status_code == 403
    assert not Job.objects.exists()


@pytest.mark.parametrize("path", ["/status", "/api/v1/status"])
def test_status_tells_anybody_what_the_database_says(client: Client, path: str) -> None:
    owner = funded_researcher_make()
    job_make(owner, verification={"copies": 3, "quorum": 2}, title="secret title")
    node_make(user_make(), last_seen_at=timezone.now())
    node_make(user_make(), last_seen_at=timezone.now() - timedelta(minutes=3))
    answer = client.get(path)
    found = answer.json()
    assert answer.status_code == 200
    assert found["queues"][0]["depth"] == 3
    assert found["queues"][0]["oldest_wait_seconds"] >= 0
    assert found["queues"][3] == {"tier": "gpu-tier3", "depth": 0, "oldest_wait_seconds": None}
    assert found["nodes"][0] == {"tier": "cpu", "registered": 2, "seen": 1}
    assert (found["jobs"]["queued"], found["jobs"]["completed"]) == (1, 0)
    assert found["ledger"]["checkpoint_size"] == 0
    for private in ("secret title", owner.username, Job.objects.get().label):
        assert private not in answer.content.decode()


def test_descriptor_schema_is_public(client: Client) -> None:
    assert client.get("/api/v1/descriptor.schema.json").json()["$schema"].endswith("2020-12/schema")


def test_published_schemas_are_checked_for_drift(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"descriptor\.schema\.json, openapi\.json"):
        call_command("schemas_write", "--check", folder=tmp_path, stdout=StringIO())
    call_command("schemas_write", folder=tmp_path, stdout=StringIO())
    call_command("schemas_write", "--check", folder=tmp_path, stdout=StringIO())
    document = json.loads((tmp_path / "openapi.json").read_text())
    assert document["openapi"].startswith("3.1")
    assert {"/submit-job", "/api/v1/jobs", "/status"} <= set(document["paths"])
    (tmp_path / "openapi.json").write_text("{}")
    with pytest.raises(CommandError, match=r"^openapi\.json in"):
        call_command("schemas_write", "--check", folder=tmp_path, stdout=StringIO())


def test_event_of_submission_is_in_the_outbox() -> None:
    event = JobEvent.objects.get(job=job_make(), kind="job.queued")
    assert UnpushedEvents.objects.filter(events=[event.pk]).exists()
