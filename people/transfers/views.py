"""Where people give credits to others: a form, what it will do, and the button that does it."""

from __future__ import annotations

from uuid import uuid4

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from ledger.services import account_of
from people.page_users import user_of
from people.transfers.forms import TransferForm
from people.transfers.services import MICRO, credits_send, receiver_of
from people.views import refusal_show
from workers.protocol.problems import ProblemError


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@login_required
@reauthentication_required(allow_get=True)  # type: ignore[untyped-decorator]  # allauth has no types
def transfer_page(request: HttpRequest) -> HttpResponse:
    """With a whole form in the query it says what would happen; sent to the same address it happens, after a password if need be."""
    user = user_of(request)
    form, review, status = _form(request), None, 200
    balance_micro = account_of(user=user).balance_micro
    if form.is_bound and not form.is_valid():
        status = 400
    elif form.is_bound:
        given = form.cleaned_data
        amount_micro = int(given["credits"] * MICRO)
        try:
            if request.method == "POST":
                credits_send(sender=user, account_id=given["to"], amount_micro=amount_micro, transfer_id=given["transfer"])
                messages.success(
                    request, "Sent. It stands in your statement, and in the public ledger in a second or so.", extra_tags="done"
                )
                return redirect("bank-page")
            receiver = receiver_of(account_id=given["to"], sender=user)
            review = {"account": receiver, "amount_micro": amount_micro, "left_micro": balance_micro - amount_micro}
        except ProblemError as error:
            refusal_show(form, error)
            status = error.status
    context = {"form": form, "review": review, "balance_micro": balance_micro}
    return render(request, "people/transfer.html", context, status=status)


def _form(request: HttpRequest) -> TransferForm:
    """Bound where a whole form is in the query; else empty but for what a link has put there."""
    query = request.GET
    if "transfer" in query:
        return TransferForm(query)
    return TransferForm(initial={"to": query.get("to", "")[:36], "transfer": uuid4()})
