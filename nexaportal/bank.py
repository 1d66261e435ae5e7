"""The bank: one's own account. Here because it shows what is reserved for jobs beside what the ledger says of a person."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from django.contrib.auth.decorators import login_required
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from jobs.selectors import reservations_open
from ledger.models import Account
from ledger.services import account_of
from people.page_users import user_of
from people.statements import chunks_async, statement_csv, statement_json, statement_lines

PAGE_LINES: Final = 50
RESERVATIONS_SHOWN: Final = 20
FORMS: Final[dict[str, tuple[Callable[[Account], Iterator[bytes]], str]]] = {
    "csv": (statement_csv, "text/csv; charset=utf-8; header=present"),
    "json": (statement_json, "application/json"),
}


@require_GET
@never_cache
@login_required
def bank_page(request: HttpRequest) -> HttpResponse:
    """Balance, what is reserved for open jobs, and the statement, newest first; older lines follow behind `before`, a signed cursor."""
    user = user_of(request)
    account = account_of(user=user)
    cursor = request.GET.get("before", "")
    page = statement_lines(account=account, cursor=cursor, limit=PAGE_LINES)
    context = {
        "account": account,
        "page": page,
        "is_newest": not cursor,
        "reservations": reservations_open(owner=user, limit=RESERVATIONS_SHOWN),
    }
    return render(request, "people/bank.html", context)


@require_GET
@never_cache
@login_required
def statement_download(request: HttpRequest, form: str) -> HttpResponseBase:
    """The whole statement as `csv` or `json`, oldest first, in flat memory."""
    if form not in FORMS:
        raise Http404("The statement comes as csv or json.")
    write, content_type = FORMS[form]
    chunks = write(account_of(user=user_of(request)))
    # Django reads a whole synchronous iterator into memory before it serves it under ASGI, and an asynchronous one under WSGI.
    streamed = chunks_async(chunks) if isinstance(request, ASGIRequest) else chunks
    response = StreamingHttpResponse(streamed, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="statement.{form}"'
    return response
