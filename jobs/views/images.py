"""The page of images: which may run here, and how to ask for another."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from jobs import selectors
from jobs.services.image_requests import image_request
from people.page_users import user_of
from workers.protocol.problems import ProblemError


class ImageRequestForm(forms.Form):
    """Which image, and what for."""

    name = forms.CharField(max_length=255, label="Image", help_text="registry/name:tag, as your descriptor would name it.")
    purpose = forms.CharField(
        max_length=2000,
        min_length=20,
        label="What is in it, and what for",
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="Where its Dockerfile can be read, which program it runs, which jobs need it.",
    )


@require_http_methods(["GET", "POST"])
@never_cache
@login_required
def images_page(request: HttpRequest) -> HttpResponse:
    """The approved images, and the caller's requests."""
    user = user_of(request)
    form = (
        ImageRequestForm(request.POST)
        if request.method == "POST"
        else ImageRequestForm(initial={"name": request.GET.get("name", "")[:255]})
    )
    if form.is_valid():
        try:
            asked = image_request(by=user, name=form.cleaned_data["name"], purpose=form.cleaned_data["purpose"])
        except ProblemError as error:
            form.add_error(None, error.detail)
        else:
            messages.success(request, f"You have asked for {asked.name}. You are told when a moderator has decided.", extra_tags="done")
            return redirect("images-page")
    context = {"approvals": selectors.image_approvals(), "requests": selectors.image_requests_of(owner=user), "form": form}
    return render(request, "jobs/images.html", context, status=400 if form.errors else 200)
