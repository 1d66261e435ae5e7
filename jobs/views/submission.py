"""The page that a job is submitted on. The draft is in the browser; each answer is made of what it sends.

Edits (rows, tabs, files without JavaScript) and checks answer with the parts that changed where htmx asks, else with the whole page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, Protocol
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from jobs import selectors
from jobs.access import job_or_404
from jobs.descriptor import Descriptor, Fault
from jobs.descriptor.sheet import sections_of
from jobs.matching.tier_advice import TierAdvice, tier_advice
from jobs.models import Upload
from jobs.services.submission import job_submit, researcher_check
from jobs.services.uploads import upload_take
from jobs.storage import bytes_kept_lately
from jobs.submission.check import problem_faults, submission_faults
from jobs.submission.cost import JobCost, job_cost
from jobs.submission.drafts import Draft, Tab, draft_of_document, draft_of_post
from jobs.submission.starts import BLANK, clone_document, examples, start_document
from ledger.selectors import balance_micro_of
from people.models import User
from people.page_users import user_of
from workers.protocol.pay import FLOPS_PER_CREDIT
from workers.protocol.problems import ProblemError

PLAIN_FILE_BYTES_MAX: Final = 8 * 2**20
"""Of all files that a browser without JavaScript sends at once."""
_REQUEST_BYTES_MAX: Final = PLAIN_FILE_BYTES_MAX + 2 * 2**20
_PATH_CHARACTERS: Final = 255
SUBMITTED_BEFORE: Final = "This job was submitted before, with the same content; here it is. Nothing was reserved twice."
_SUBMITTED_TAGS: Final = "done submitted"
"""By the second word on the job's page the browser knows that its draft was taken (static/jobs/draft_kept.js)."""


class RequestView(Protocol):
    def __call__(self, request: HttpRequest) -> HttpResponse: ...


@dataclass(frozen=True)
class PlacedFault:
    """A fault and the field of the form that it is about; "" where it is about the whole."""

    fault: Fault
    name: str


@dataclass(frozen=True)
class Checked:
    """What the page says beside the form. Without a descriptor there are faults only. Amounts in millionths of a credit."""

    faults: tuple[PlacedFault, ...]
    balance_micro: int
    kept_bytes: int
    """What is stored for the person."""
    cost: JobCost | None = None
    advice: TierAdvice | None = None
    image: str = ""
    """The image that the descriptor names, as one asks for it: without a digest."""

    @property
    def left_micro(self) -> int:
        return self.balance_micro - (self.cost.reserved_micro if self.cost else 0)


def _body_bounded(view: RequestView) -> RequestView:
    """Looks at the announced length before anything, the CSRF check too, reads the form."""
    guarded = csrf_protect(view)

    @csrf_exempt
    @wraps(view)
    def bounded(request: HttpRequest) -> HttpResponse:
        announced = request.META.get("CONTENT_LENGTH") or "0"
        if not announced.isdecimal() or len(announced) > 12 or int(announced) > _REQUEST_BYTES_MAX:
            return render(request, "jobs/new/too_large.html", {"limit_bytes": PLAIN_FILE_BYTES_MAX}, status=413)
        return guarded(request)

    return bounded


@_body_bounded
@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def new_job_page(request: HttpRequest) -> HttpResponse:
    """GET: what to start from, or with `from` the form. POST: submits; the label makes a second click find the first one's job."""
    if request.method == "POST":
        return _submitted(request)
    if "from" not in request.GET:
        return render(request, "jobs/new/choose.html", {"examples": examples(), "blank": BLANK})
    document = start_document(request.GET["from"])
    if document is None:
        raise Http404("There is no such example.")
    return _page(request, draft_of_document(document))


@require_GET
@never_cache
@login_required
def clone_page(request: HttpRequest, job_id: UUID) -> HttpResponse:
    """The form, filled in like one of the caller's jobs, under a label of its own."""
    job = job_or_404(owner=user_of(request), job_id=job_id)
    return _page(request, draft_of_document(clone_document(job)), cloned=job)


@_body_bounded
@require_POST
@never_cache
@login_required
def new_job_check(request: HttpRequest) -> HttpResponse:
    """What would become of the draft: faults by field, cost, tiers."""
    draft = draft_of_post(request.POST.dict())
    if _is_part(request):
        return render(request, "jobs/new/_checked.html", {"check": _checked(user_of(request), draft)})
    return _page(request, draft, faults_shown=True)


@_body_bounded
@require_POST
@never_cache
@login_required
def new_job_edit(request: HttpRequest) -> HttpResponse:
    """The draft after one change: `do` is `show TAB`, `add ROWS`, `remove ROW`, `attach` (an upload) or `upload` (files)."""
    draft = draft_of_post(request.POST.dict())
    word, _, name = request.POST.get("do", "").partition(" ")
    refused: list[Fault] = []
    match word:
        case "show" if name in set(Tab):
            draft = draft.shown_as(Tab(name))
        case "add":
            draft = draft.with_row(name)
        case "remove":
            draft = draft.without_row(name)
        case "attach":
            draft = _attached(draft, request.POST)
        case "upload":
            draft, refused = _files_taken(user_of(request), draft, request.FILES.getlist("file"))
    if _is_part(request):
        return render(request, "jobs/new/_edited.html", _context(request, draft, refused))
    return _page(request, draft, refused=refused)


def _submitted(request: HttpRequest) -> HttpResponse:
    draft = draft_of_post(request.POST.dict())
    descriptor, _ = draft.parsed()
    if descriptor is None:
        return _page(request, draft, faults_shown=True, status=422)
    try:
        job, created = job_submit(owner=user_of(request), descriptor=descriptor)
    except ProblemError as error:
        refused = list(problem_faults(error, ""))
        return _page(request, draft, faults_shown=True, refused=refused, status=error.status)
    if created:
        messages.success(request, "Submitted.", extra_tags=_SUBMITTED_TAGS)
    else:
        messages.info(request, SUBMITTED_BEFORE, extra_tags=_SUBMITTED_TAGS)
    return redirect("job-page", job.pk)


def _page(
    request: HttpRequest,
    draft: Draft,
    *,
    faults_shown: bool = False,
    refused: Sequence[Fault] = (),
    status: int = 200,
    cloned: object = None,
) -> HttpResponse:
    context = {**_context(request, draft, refused, faults_shown=faults_shown), "cloned": cloned}
    return render(request, "jobs/new/page.html", context, status=status)


def _context(request: HttpRequest, draft: Draft, refused: Sequence[Fault] = (), *, faults_shown: bool = False) -> dict[str, Any]:
    user = user_of(request)
    check = _checked(user, draft, refused)
    wrong: dict[str, list[str]] = {}
    for placed in check.faults:
        wrong.setdefault(placed.name, []).append(placed.fault.message)
    return {
        "draft": draft,
        "check": check,
        "faults_shown": faults_shown,
        "sections": sections_of(draft.fields, wrong if faults_shown else {}) if draft.tab is Tab.FORM else [],
        "uploads": _upload_states(user, draft.fields),
        "plain_bytes_max": PLAIN_FILE_BYTES_MAX,
        "input_bytes_max": settings.NEXA_INPUT_BYTES_MAX,
        "stored_bytes_max": settings.NEXA_STORED_BYTES_MAX,
        "flops_per_credit": float(FLOPS_PER_CREDIT),
    }


def _checked(user: User, draft: Draft, refused: Sequence[Fault] = ()) -> Checked:
    descriptor, faults = draft.parsed()
    found = [*refused, *draft.unfit, *(faults if descriptor is None else submission_faults(owner=user, descriptor=descriptor))]
    own = {fault: name for name, fault in draft.written.faults} if draft.tab is Tab.FORM else {}
    placed = {(fault.path, fault.message): PlacedFault(fault, own.get(fault) or draft.name_of(fault.path)) for fault in found}
    balance_micro, kept_bytes = balance_micro_of(user_id=user.pk), bytes_kept_lately(user)
    if descriptor is None:
        return Checked(tuple(placed.values()), balance_micro, kept_bytes)
    image = descriptor.docker_image.partition("@")[0]
    return Checked(tuple(placed.values()), balance_micro, kept_bytes, *_estimated(descriptor), image=image)


def _estimated(descriptor: Descriptor) -> tuple[JobCost, TierAdvice]:
    return job_cost(descriptor), tier_advice(descriptor)


def _attached(draft: Draft, posted: Mapping[str, str]) -> Draft:
    """What the browser has uploaded; whether it has is checked as for any other input."""
    size = posted.get("size_bytes", "")
    if not (size.isascii() and size.isdecimal()):
        return draft
    return draft.with_input(path=posted.get("path", "")[:_PATH_CHARACTERS], digest=posted.get("digest", ""), size_bytes=int(size[:16]))


def _files_taken(user: User, draft: Draft, files: Sequence[UploadedFile[bytes]]) -> tuple[Draft, list[Fault]]:
    """The draft with these files as inputs, and why some were not taken."""
    refused = [] if files else [Fault("/inputs", "missing", "No file was chosen. Choose one or more, then upload.")]
    for file in files:
        try:
            researcher_check(user)
            taken = upload_take(user=user, stream=file, limit_bytes=PLAIN_FILE_BYTES_MAX)
        except ProblemError as error:
            refused += problem_faults(error, "/inputs")
        else:
            draft = draft.with_input(path=file.name or "file", digest=taken.digest, size_bytes=taken.size_bytes)
    return draft, refused


def _upload_states(user: User, fields: Mapping[str, str]) -> dict[str, Upload]:
    """The caller's uploads of the form's inputs, by digest."""
    digests = {text for name, text in fields.items() if name.startswith("/inputs/") and name.endswith("/digest") and text}
    return selectors.uploads_of(owner=user, digests=digests) if digests else {}


def _is_part(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of the page."""
    return request.headers.get("HX-Request") == "true"
