"""REST of jobs: submit, list, look, cancel, and the portal's public status."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import IO, Annotated, Any, ClassVar, Final, TypeVar
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_view
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from rest_framework import status
from rest_framework.parsers import BaseParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jobs import answers, listing, selectors
from jobs.access import job_or_404
from jobs.descriptor import Descriptor, JobArrayDocument, array_parse, descriptor_parse, descriptor_schema
from jobs.descriptor.arrays import ARRAY_BYTES_MAX
from jobs.descriptor.model import DESCRIPTOR_BYTES_MAX
from jobs.errors import QueryInvalidError
from jobs.evidence.bundles import bundle_response
from jobs.live import overview
from jobs.models import Job
from jobs.services.submission import job_cancel, job_submit, jobs_submit
from jobs.states import JobState
from jobs.submission.cost import job_cost
from people.api import PROBLEM, user_of
from people.models import Scope
from people.permissions import ScopePermission
from workers.protocol.validation import validation_errors

PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 200
SUBMIT_RESPONSES = {201: answers.JobDetail, 200: answers.JobDetail, **dict.fromkeys((400, 401, 402, 403, 409, 413, 415, 422), PROBLEM)}
ARRAY_RESPONSES = {201: answers.ArrayAnswer, 200: answers.ArrayAnswer, **dict.fromkeys((400, 401, 402, 403, 409, 413, 415, 422), PROBLEM)}
READ_PROBLEMS = dict.fromkeys((400, 401, 403, 404), PROBLEM)


QueryT = TypeVar("QueryT", bound=BaseModel)


class DescriptorParser(BaseParser):
    """Leaves the body to `descriptor_parse`, which reads untrusted bytes; one byte beyond its limit is enough for it to refuse."""

    media_type = "application/json"
    bytes_max = DESCRIPTOR_BYTES_MAX

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        return bytes(stream.read(self.bytes_max + 1))


class ArrayParser(DescriptorParser):
    """The same for `array_parse`."""

    bytes_max = ARRAY_BYTES_MAX


class JobListQuery(BaseModel):
    """Which jobs. `before` is the `next` of the page before."""

    model_config = ConfigDict(extra="forbid")

    state: JobState | None = None
    job_id: Annotated[str, StringConstraints(max_length=128, pattern=r"^[^\x00]*$")] | None = None
    before: Annotated[str, StringConstraints(max_length=200)] | None = None
    limit: int = Field(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX)


class EventListQuery(BaseModel):
    """Which events: those behind the id `after`."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(default=0, ge=0, le=2**53 - 1)
    limit: int = Field(default=PAGE_MAX, ge=1, le=PAGE_MAX)


def submission_answer(request: Request) -> Response:
    """Submits the request's body: 201 for a new job, 200 for the one that the same label and content made before."""
    job, created = job_submit(owner=user_of(request), descriptor=_descriptor_of(request))
    detail = answers.detail_of(job, selectors.inputs_of(job=job))
    headers = {"Location": f"/api/v1/jobs/{job.pk}"}
    return Response(detail.model_dump(mode="json"), status.HTTP_201_CREATED if created else status.HTTP_200_OK, headers=headers)


class SubmitJobView(APIView):
    """`POST /submit-job`, the seed's name for `POST /api/v1/jobs`."""

    parser_classes = [DescriptorParser]
    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"POST": Scope.JOBS_WRITE}

    @extend_schema(operation_id="submit_job", request=Descriptor, responses=SUBMIT_RESPONSES)
    def post(self, request: Request) -> Response:
        """Submits a job. Idempotent by `job_id`: the same content again answers 200 with the same job, other content 409."""
        return submission_answer(request)


@extend_schema_view(post=extend_schema(operation_id="submit_job_v1"))
class SubmitJobV1View(SubmitJobView):
    """`POST /api/v1/submit-job`: the same, with an operation id of its own."""


class JobListView(APIView):
    """`/api/v1/jobs`."""

    parser_classes = [DescriptorParser]
    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": Scope.JOBS_READ, "POST": Scope.JOBS_WRITE}

    @extend_schema(
        operation_id="jobs_list",
        parameters=[
            OpenApiParameter("state", str, enum=[state.value for state in JobState]),
            OpenApiParameter("job_id", str, description="the submitter's label"),
            OpenApiParameter("before", str, description="`next` of the page before"),
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT}),
        ],
        responses={200: answers.JobPage, **dict.fromkeys((400, 401, 403), PROBLEM)},
    )
    def get(self, request: Request) -> Response:
        """The caller's jobs, newest first."""
        query = _query_of(request, JobListQuery)
        before = _key_parse(query.before) if query.before is not None else None
        jobs = listing.jobs_of(owner=user_of(request), state=query.state, label=query.job_id, before=before, limit=query.limit + 1)
        page = jobs[: query.limit]
        following = _key_of(page[-1]) if len(jobs) > query.limit else None
        return _answered(answers.JobPage(jobs=answers.summaries_of(page), next=following))

    @extend_schema(operation_id="jobs_submit", request=Descriptor, responses=SUBMIT_RESPONSES)
    def post(self, request: Request) -> Response:
        """Submits a job. Idempotent by `job_id`: the same content again answers 200 with the same job, other content 409."""
        return submission_answer(request)


class JobArrayView(APIView):
    """`POST /api/v1/jobs/array`."""

    parser_classes = [ArrayParser]
    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"POST": Scope.JOBS_WRITE}

    @extend_schema(operation_id="jobs_submit_array", request=JobArrayDocument, responses=ARRAY_RESPONSES)
    def post(self, request: Request) -> Response:
        """Submits up to 1,000 jobs that differ in a few members, all or none. Idempotent by `job_id`, as single submissions are."""
        jobs = jobs_submit(owner=user_of(request), array=array_parse(_body_of(request)))
        answer = answers.ArrayAnswer(
            jobs=[answers.ArrayJob(id=job.id, job_id=job.label, state=job.state, created=job.created) for job in jobs]
        )
        is_new = any(job.created for job in jobs)
        return Response(answer.model_dump(mode="json"), status.HTTP_201_CREATED if is_new else status.HTTP_200_OK)


class JobView(APIView):
    """`GET /api/v1/jobs/<id>`."""

    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": Scope.JOBS_READ}

    @extend_schema(operation_id="job", responses={200: answers.JobDetail, **READ_PROBLEMS})
    def get(self, request: Request, job_id: UUID) -> Response:
        """One job of the caller."""
        job = job_or_404(owner=user_of(request), job_id=job_id)
        return _answered(answers.detail_of(job, selectors.inputs_of(job=job)))


class JobReplicasView(APIView):
    """`GET /api/v1/jobs/<id>/replicas`."""

    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": Scope.JOBS_READ}

    @extend_schema(operation_id="job_replicas", responses={200: answers.ReplicaList, **READ_PROBLEMS})
    def get(self, request: Request, job_id: UUID) -> Response:
        """The job's replicas: as many as asked for while it is open; all, with what they delivered, once it is concluded."""
        job = job_or_404(owner=user_of(request), job_id=job_id)
        replicas = [answers.replica_of(each, job=job) for each in selectors.replicas_of(job=job)]
        return _answered(answers.ReplicaList(replicas=replicas))


class JobEventsView(APIView):
    """`GET /api/v1/jobs/<id>/events`."""

    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": Scope.JOBS_READ}

    @extend_schema(
        operation_id="job_events",
        parameters=[
            OpenApiParameter("after", {"type": "integer", "minimum": 0, "default": 0}),
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_MAX}),
        ],
        responses={200: answers.EventPage, **READ_PROBLEMS},
    )
    def get(self, request: Request, job_id: UUID) -> Response:
        """What happened to the job, oldest first. Once it is concluded there is more of it, also from before: read it from 0 again."""
        job = job_or_404(owner=user_of(request), job_id=job_id)
        query = _query_of(request, EventListQuery)
        events = selectors.events_of(job=job, after=query.after, limit=query.limit)
        following = events[-1].pk if events else query.after
        return _answered(answers.EventPage(events=[answers.event_of(event) for event in events], next=following))


class JobCancelView(APIView):
    """`POST /api/v1/jobs/<id>/cancel`."""

    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"POST": Scope.JOBS_WRITE}

    @extend_schema(operation_id="job_cancel", request=None, responses={200: answers.JobDetail, **READ_PROBLEMS, 409: PROBLEM})
    def post(self, request: Request, job_id: UUID) -> Response:
        """Cancels an open job and gives its reservation back. Idempotent."""
        job = job_cancel(job=job_or_404(owner=user_of(request), job_id=job_id))
        return _answered(answers.detail_of(job, selectors.inputs_of(job=job)))


class JobBundleView(APIView):
    """`GET /api/v1/jobs/<id>/bundle`."""

    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"GET": Scope.JOBS_READ}

    @extend_schema(
        operation_id="job_bundle",
        responses={(200, "application/zip"): OpenApiTypes.BINARY, **READ_PROBLEMS, 409: PROBLEM},
    )
    def get(self, request: Request, job_id: UUID) -> StreamingHttpResponse:
        """The result with all that proves it, as a ZIP for `nexa verify`."""
        return bundle_response(job=job_or_404(owner=user_of(request), job_id=job_id))


class EstimateView(APIView):
    """`POST /api/v1/jobs/estimate`."""

    parser_classes = [DescriptorParser]
    permission_classes = [ScopePermission]
    required_scopes: ClassVar[dict[str, Scope | None]] = {"POST": Scope.JOBS_READ}

    @extend_schema(
        operation_id="jobs_estimate",
        request=Descriptor,
        responses={200: answers.CostAnswer, **dict.fromkeys((400, 401, 403, 413, 415, 422), PROBLEM)},
    )
    def post(self, request: Request) -> Response:
        """Checks a descriptor and says what it would cost, without submitting it."""
        cost = job_cost(_descriptor_of(request))
        return _answered(
            answers.CostAnswer(
                reserved_micro=str(cost.reserved_micro), expected_micro=str(cost.expected_micro), replicas_max=cost.replicas_max
            )
        )


class StatusView(APIView):
    """`GET /status`, public."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(operation_id="status", auth=[], responses={200: answers.StatusAnswer})
    def get(self, request: Request) -> Response:
        """Queues, nodes, jobs and ledger in numbers, as of `time`, a few seconds ago at most."""
        return _answered(answers.StatusAnswer(version=settings.SPECTACULAR_SETTINGS["VERSION"], **overview.portal.get()))


@extend_schema_view(get=extend_schema(operation_id="status_v1"))
class StatusV1View(StatusView):
    """`GET /api/v1/status`: the same, with an operation id of its own."""


class DescriptorSchemaView(APIView):
    """`GET /api/v1/descriptor.schema.json`, public."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(
        operation_id="descriptor_schema", auth=[], responses={200: OpenApiResponse(OpenApiTypes.OBJECT, description="JSON Schema 2020-12")}
    )
    def get(self, request: Request) -> Response:
        """The descriptor as JSON Schema."""
        return Response(descriptor_schema())


def _answered(answer: answers.Answer) -> Response:
    return Response(answer.model_dump(mode="json"))


def _descriptor_of(request: Request) -> Descriptor:
    return descriptor_parse(_body_of(request))


def _body_of(request: Request) -> bytes:
    """The body, if the view's parser leaves it as it is. Without one DRF parses nothing and gives an empty form instead."""
    body: object = request.data
    return body if isinstance(body, bytes) else b""


def _query_of(request: Request, model: type[QueryT]) -> QueryT:
    try:
        return model.model_validate(request.query_params.dict())
    except ValidationError as error:
        faults = validation_errors(error)
        raise QueryInvalidError(f"At {faults[0]['path']}: {faults[0]['message']}.", errors=faults) from error


_KEY_TIME: Final = TypeAdapter(AwareDatetime)


def _key_of(job: Job) -> str:
    """The keyset position behind `job`, opaque to callers."""
    return base64.urlsafe_b64encode(f"{job.submitted_at.isoformat()}|{job.pk}".encode()).decode().rstrip("=")


def _key_parse(text: str) -> tuple[datetime, UUID]:
    """Raises QueryInvalidError."""
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        submitted_at, _, job_id = decoded.partition("|")
        return _KEY_TIME.validate_strings(submitted_at), UUID(job_id)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise QueryInvalidError(f"before: expected the `next` of an earlier page; found {text[:80]!r}.") from error
