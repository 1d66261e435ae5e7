"""Arrays as jobs: all of one or nothing, once however often and by however many they are sent, in statements that don't grow."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from jobs.descriptor import JobArray, array_parse, descriptor_parse
from jobs.errors import InputMismatchError, InputUnknownError, LabelConflictError, RequirementsImpossibleError, ResearcherRequiredError
from jobs.models import Job, JobEvent, JobInput, Replica
from jobs.services.submission import SubmittedJob, job_submit, jobs_submit
from jobs.states import JobState, ReplicaState
from ledger.models import Account, AccountKind
from ledger.movements import CreditsInsufficientError
from ledger.services import account_of
from people.models import User
from tests.factories.jobs import credits_grant, descriptor_make, funded_researcher_make, image_approve, job_make, upload_make
from tests.factories.people import researcher_make, token_header, user_make

EACH_MICRO = 1000 * 4 * 2
"""What a job of the template reserves: a thousandth of a credit, four times, for each of two replicas."""

UNKNOWN = {"inputs": [{"path": "x", "digest": "sha256:" + "0" * 64}]}


def template_make(**overrides: Any) -> dict[str, Any]:
    return {name: value for name, value in descriptor_make(**overrides).items() if name != "job_id"}


def array_make(items: Any, **overrides: Any) -> JobArray:
    """`items`: dictionaries, or labels alone."""
    written = [{"job_id": item} if isinstance(item, str) else item for item in items]
    return array_parse(json.dumps({"template": template_make(**overrides), "items": written}).encode())


def balance_of(user: User) -> int:
    return Account.objects.get(pk=account_of(user=user).pk).balance_micro


def nothing_written() -> bool:
    return not (Job.objects.exists() or Replica.objects.exists() or JobEvent.objects.exists() or JobInput.objects.exists())


@pytest.mark.django_db
def test_array_writes_jobs_replicas_inputs_events_and_reservations() -> None:
    owner = funded_researcher_make()
    shared, own = upload_make(owner, b"shared"), upload_make(owner, b"own")
    array = array_make(
        [
            {"job_id": "b", "arguments": ["2"], "inputs": [{"path": "own", "digest": own.digest}]},
            {"job_id": "a", "environment": {"INDEX": "1"}, "title": "the first"},
        ],
        inputs=[{"path": "shared", "digest": shared.digest}],
        priority=3,
    )
    submitted = jobs_submit(owner=owner, array=array)
    assert [(job.label, job.state, job.created) for job in submitted] == [("b", JobState.QUEUED, True), ("a", JobState.QUEUED, True)]
    jobs = {job.label: job for job in Job.objects.all()}
    assert [jobs[one.label].pk for one in submitted] == [one.id for one in submitted]
    rows = [(job.label, job.state, job.priority, job.reserved_micro) for job in jobs.values()]
    assert sorted(rows) == [(label, JobState.QUEUED, 3, EACH_MICRO) for label in "ab"]
    assert [(each.path, each.blob_id) for each in jobs["b"].inputs.order_by("path")] == [("own", own.digest), ("shared", shared.digest)]
    assert [each.path for each in jobs["a"].inputs.all()] == ["shared"]
    assert (jobs["b"].descriptor["arguments"], jobs["a"].descriptor["environment"]) == (["2"], {"INDEX": "1"})
    # The queue gives out what the array has first.
    assert [each.job.label for each in Replica.objects.order_by("created_at")] == ["b", "a"]
    assert sorted(JobEvent.objects.values_list("job__label", "kind")) == [("a", "job.queued"), ("b", "job.queued")]
    assert balance_of(owner) == 10_000_000 - 2 * EACH_MICRO
    assert Account.objects.get(kind=AccountKind.ESCROW).balance_micro == 2 * EACH_MICRO


@pytest.mark.django_db
def test_a_job_of_an_array_is_the_row_that_a_single_submission_writes() -> None:
    owner, other = funded_researcher_make(), funded_researcher_make()
    own = {"title": "one", "arguments": ["--x"], "environment": {"A": "1"}}
    jobs_submit(owner=owner, array=array_make([{"job_id": "same", **own}], verification={"copies": 2, "quorum": 2}))
    single = descriptor_make(job_id="same", verification={"copies": 2, "quorum": 2}, **own)
    job_submit(owner=other, descriptor=descriptor_parse(single))
    left_out = {"id", "owner_id", "submitted_at", "queue_deadline_at"}
    rows = [{name: value for name, value in row.items() if name not in left_out} for row in Job.objects.values()]
    assert rows[0] == rows[1]
    replicas = [dict(row) for row in Replica.objects.values()]
    varying = {"id", "job_id", "created_at", "queue_key"}
    assert len({json.dumps({name: row[name] for name in row if name not in varying}, default=str) for row in replicas}) == 1
    # And it is found again, either way.
    assert not job_submit(owner=owner, descriptor=descriptor_parse(single))[1]
    assert not jobs_submit(owner=other, array=array_make([{"job_id": "same", **own}], verification={"copies": 2, "quorum": 2}))[0].created


@pytest.mark.django_db
def test_array_repeated_gives_the_same_jobs_and_a_longer_one_adds_to_them() -> None:
    owner = funded_researcher_make()
    first = jobs_submit(owner=owner, array=array_make(["a", "b"]))
    again = jobs_submit(owner=owner, array=array_make(["a", "b"]))
    assert [job.id for job in again] == [job.id for job in first]
    assert not any(job.created for job in again)
    longer = jobs_submit(owner=owner, array=array_make(["c", "b", "a"]))
    assert [(job.label, job.created) for job in longer] == [("c", True), ("b", False), ("a", False)]
    assert balance_of(owner) == 10_000_000 - 3 * EACH_MICRO


@pytest.mark.django_db
def test_conflicts_are_named_by_item_and_nothing_is_written() -> None:
    owner = funded_researcher_make()
    before = job_make(owner, job_id="b")
    with pytest.raises(LabelConflictError) as caught:
        jobs_submit(owner=owner, array=array_make(["a", {"job_id": "b", "title": "other"}, "c"]))
    assert (caught.value.extra["job"], [each["path"] for each in caught.value.extra["errors"]]) == (str(before.pk), ["/items/1/job_id"])
    assert Job.objects.count() == 1


@pytest.mark.django_db
def test_array_that_cannot_be_afforded_whole_is_not_begun() -> None:
    image_approve()
    owner = researcher_make()
    credits_grant(owner, 3 * EACH_MICRO - 1)
    with pytest.raises(CreditsInsufficientError, match="Together 3 new jobs would reserve") as caught:
        jobs_submit(owner=owner, array=array_make(["a", "b", "c"]))
    assert (caught.value.extra["needed_micro"], caught.value.extra["balance_micro"]) == (str(3 * EACH_MICRO), str(3 * EACH_MICRO - 1))
    assert nothing_written()
    assert balance_of(owner) == 3 * EACH_MICRO - 1
    assert len(jobs_submit(owner=owner, array=array_make(["a", "b"]))) == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("items", "overrides", "error", "path"),
    [
        (["a", {"job_id": "b", **UNKNOWN}], {}, InputUnknownError, "/items/1/inputs/0"),
        (["a", "b"], UNKNOWN, InputUnknownError, "/template/inputs/0"),
        (["a", "b"], {"requirements": {"ram_gb": 1e6}}, RequirementsImpossibleError, "/template/requirements/ram_gb"),
    ],
    ids=["an item's input", "the template's input", "the template's needs"],
)
def test_array_with_a_fault_is_refused_whole_and_the_place_is_told(items: Any, overrides: Any, error: Any, path: str) -> None:
    with pytest.raises(error) as caught:
        jobs_submit(owner=funded_researcher_make(), array=array_make(items, **overrides))
    assert caught.value.extra["errors"][0]["path"] == path
    assert nothing_written()


@pytest.mark.django_db
def test_sizes_of_an_items_inputs_are_checked() -> None:
    owner = funded_researcher_make()
    blob = upload_make(owner, b"four")
    with pytest.raises(InputMismatchError, match="expected 5 bytes; the blob has 4") as caught:
        jobs_submit(
            owner=owner, array=array_make(["a", {"job_id": "b", "inputs": [{"path": "x", "digest": blob.digest, "size_bytes": 5}]}])
        )
    assert caught.value.extra["errors"][0]["path"] == "/items/1/inputs/0"


@pytest.mark.django_db
def test_array_by_somebody_not_approved_is_refused() -> None:
    image_approve()
    with pytest.raises(ResearcherRequiredError):
        jobs_submit(owner=user_make(), array=array_make(["a"]))


@pytest.mark.django_db
def test_statements_do_not_grow_with_the_array() -> None:
    owner = funded_researcher_make()
    blob = upload_make(owner, b"in")
    job_make(owner)  # the kind of these jobs is known then
    counts = []
    for size in (1, 50):
        items = [{"job_id": f"{size}-{n}", "inputs": [{"path": "in", "digest": blob.digest}]} for n in range(size)]
        array = array_make(items)
        with CaptureQueriesContext(connection) as queries:
            jobs_submit(owner=owner, array=array)
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 20, counts


@pytest.mark.django_db
def test_spot_jobs_reserve_as_if_they_were_chosen() -> None:
    owner = funded_researcher_make()
    spot = job_make(owner, verification={"policy": "spot"})
    assert (spot.policy, spot.spot_share, spot.copies, spot.quorum, spot.replicas_max) == ("spot", 0.1, 1, 1, 4)
    assert spot.descriptor["verification"]["spot_share"] == 0.1
    twice = job_make(owner, verification={"copies": 2, "quorum": 2})
    assert (twice.policy, twice.spot_share, twice.reserved_micro) == ("fixed", None, spot.reserved_micro)
    assert job_make(owner, verification={"policy": "spot", "spot_share": 0.5}).spot_share == 0.5
    assert Replica.objects.filter(job=spot).count() == 1


@pytest.mark.usefixtures("own_database")
@pytest.mark.parametrize("titles", [("a", "a"), ("a", "b")], ids=["same content", "other content"])
def test_arrays_that_race_write_each_job_once(titles: tuple[str, str]) -> None:
    """In orders of their own, and one of them with other content: whoever is first has all of it, and nobody waits for ever."""
    owner = funded_researcher_make()
    labels = [f"job-{n}" for n in range(20)]
    barrier = threading.Barrier(4)
    outcomes: list[Any] = []

    def race(title: str, ordering: list[str]) -> None:
        try:
            array = array_make(ordering, title=title)
            barrier.wait(timeout=30)
            outcomes.append({job.label: job for job in jobs_submit(owner=owner, array=array)})
        except LabelConflictError:
            outcomes.append(None)
        finally:
            connection.close()

    orderings = itertools.cycle([labels, labels[::-1]])
    threads = [threading.Thread(target=race, args=(title, next(orderings))) for title in titles * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(outcomes) == 4
    won: list[dict[str, SubmittedJob]] = [each for each in outcomes if each is not None]
    assert len(won) == (4 if len(set(titles)) == 1 else 2)
    assert [sum(each[label].created for each in won) for label in labels] == [1] * 20
    assert len({tuple(each[label].id for label in labels) for each in won}) == 1
    assert Replica.objects.filter(state=ReplicaState.QUEUED).count() == JobEvent.objects.count() == Job.objects.count() == 20
    assert balance_of(owner) == 10_000_000 - 20 * EACH_MICRO


@pytest.mark.django_db
class TestApi:
    def post(self, owner: User, document: Any, scopes: Any = ("jobs:write",)) -> Any:
        return Client().post(
            "/api/v1/jobs/array", json.dumps(document), content_type="application/json", headers=token_header(owner, scopes)
        )

    def test_array_answers_201_then_200_then_409(self) -> None:
        owner = funded_researcher_make()
        document = {"template": template_make(), "items": [{"job_id": "a"}, {"job_id": "b"}]}
        first, again = self.post(owner, document), self.post(owner, document)
        assert (first.status_code, again.status_code) == (201, 200)
        assert [(job["job_id"], job["state"], job["created"]) for job in first.json()["jobs"]] == [
            ("a", "queued", True),
            ("b", "queued", True),
        ]
        assert [job["id"] for job in again.json()["jobs"]] == [job["id"] for job in first.json()["jobs"]]
        other = self.post(owner, {**document, "items": [{"job_id": "b", "title": "other"}]})
        assert (other.status_code, other.json()["code"], other.json()["errors"][0]["path"]) == (409, "label_conflict", "/items/0/job_id")

    def test_faults_answer_422_with_their_places(self) -> None:
        answer = self.post(funded_researcher_make(), {"template": template_make(), "items": [{"job_id": "a"}, {"job_id": "a b"}]})
        assert (answer.status_code, answer.json()["code"]) == (422, "descriptor_invalid")
        assert [each["path"] for each in answer.json()["errors"]] == ["/items/1/job_id"]

    def test_array_needs_the_scope_to_write(self) -> None:
        answer = self.post(funded_researcher_make(), {"template": template_make(), "items": [{"job_id": "a"}]}, scopes=["jobs:read"])
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
        assert Client().post("/api/v1/jobs/array", b"{}", content_type="application/json").status_code == 401
