"""The admin's pages as moderators have them: tables to look at, and acts. Nothing is added, changed or deleted in a form of Django's.

1. A LookAdmin shows a list and each row's page, to moderators. It refuses adding, changing, deleting and Django's actions to everybody, the
   operator too; the site (nexaportal/moderation/site.py) takes in no other kind.
2. What can be done is an ActPage: a page of its own that says what the act does and what it doesn't, asks why, and calls one service.
3. A moderator whose acts would be refused for want of a second factor is told so in place of the form's button.
4. Acts are answered by POST and redirect. What a service refuses is said on the page, with what was written still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import capfirst
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from people.models import User
from people.moderation.finding import Finder
from people.moderation.models import REASON_CHARACTERS_MAX, Act
from people.moderation.selectors import acts_about
from people.moderation.trail import lacks_second_factor
from workers.protocol.problems import ProblemError

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _TabularInline = admin.TabularInline[Any, Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin, _TabularInline, _Paginator = admin.ModelAdmin, admin.TabularInline, Paginator  # generic to the type checker only


class ReasonForm(forms.Form):
    """Why. What else an act asks for comes before it."""

    field_order: Sequence[str] | None = None
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 4}),
        max_length=REASON_CHARACTERS_MAX,
        label="Why",
        help_text="Other moderators read this. It stays in the trail for good: name nobody.",
    )


@dataclass(frozen=True)
class ActPage:
    """An act on one row, or `of_list`: one that makes a row.

    `says`: what it does and what it doesn't, a sentence each. `applies` says of a row whether there is a point in it; the service decides.
    `run` calls that, with who acts, the row (None for a list) and the form's data.
    """

    name: str
    label: str
    says: tuple[str, ...]
    run: Callable[[User, Any, Mapping[str, Any]], object]
    done: str
    form: type[forms.Form] = ReasonForm
    applies: Callable[[Any], bool] = lambda row: True
    is_grave: bool = False
    of_list: bool = False
    operator_only: bool = False
    returns_to_list: bool = False


class _Looking:
    """Permissions of what is looked at only."""

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return is_moderator(request)


def filter_named(kind: type[admin.FieldListFilter], title: str, *choices: str) -> type[admin.FieldListFilter]:
    """A filter of a list in words of its own: what it is about, and its choices in their order."""

    class Named(kind):  # type: ignore[valid-type, misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.title = title

        def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
            for choice, words in zip(super().choices(changelist), choices, strict=True):
                yield {**choice, "display": words}

    return Named


def filter_among(column: str, values: Sequence[str]) -> type[admin.SimpleListFilter]:
    """A filter by a column whose values are known: Django's own would read the whole table to find them."""

    class Among(admin.SimpleListFilter):
        title = column
        parameter_name = column

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            return [(value, value) for value in values]

        def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> models.QuerySet[Any]:
            return queryset.filter(**{column: self.value()}) if self.value() in values else queryset

    return Among


class LookInline(_Looking, _TabularInline):
    """Rows that belong to the one that is looked at."""

    extra = 0
    show_change_link = True


class BoundedPaginator(_Paginator):
    """Pages of the first COUNTED_MAX rows: counting them all takes longer the more there are, and nobody turns so many pages."""

    COUNTED_MAX: ClassVar[int] = 10_000

    @cached_property
    def _found(self) -> int:
        rows = cast("models.QuerySet[Any]", self.object_list)
        return rows.order_by().values("pk")[: self.COUNTED_MAX + 1].count()

    @cached_property
    def count(self) -> int:
        return min(self._found, self.COUNTED_MAX)

    @property
    def has_more(self) -> bool:
        """Whether there are rows beyond these: whoever looks for one of them narrows the list."""
        return self._found > self.COUNTED_MAX


class LookAdmin(_Looking, _ModelAdmin):
    """A table to look at, with acts."""

    actions = None
    paginator = BoundedPaginator
    list_per_page = 50
    show_full_result_count = False
    acts: Sequence[ActPage] = ()
    finders: Sequence[Finder] = ()
    """Of a table that may grow large, in place of `search_fields`, which read all of it."""
    says: str = ""
    """What the table is, above its list."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_moderator(request)

    def get_urls(self) -> list[URLPattern]:
        wrap, name = self.admin_site.admin_view, f"{self.opts.app_label}_{self.opts.model_name}"
        page = require_http_methods(["GET", "POST"])(never_cache(self.act_page))
        paths = [
            path(f"do/{act.name}/", wrap(partial(page, act=act, object_id="")), name=f"{name}_{act.name}")
            if act.of_list
            else path(f"<path:object_id>/do/{act.name}/", wrap(partial(page, act=act)), name=f"{name}_{act.name}")
            for act in self.acts
        ]
        return [*paths, *super().get_urls()]

    def get_search_fields(self, request: HttpRequest) -> list[str] | tuple[str, ...]:
        return ("pk",) if self.finders else super().get_search_fields(request)

    def get_search_results(self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str) -> tuple[Any, bool]:
        term = search_term.strip()
        if not self.finders or not term:
            return super().get_search_results(request, queryset, search_term)
        return queryset.filter(pk__in={pk for find in self.finders for pk in find(term)}), False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        acts = [(act, self.act_path(act, None)) for act in self.acts if act.of_list and self._may(request, act)]
        context = {"title": capfirst(str(self.opts.verbose_name_plural)), "says": self.says, "acts": acts}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404(f"There is no such {self.opts.verbose_name}.")
        acts = [(act, self.act_path(act, row)) for act in self.acts if not act.of_list and act.applies(row) and self._may(request, act)]
        context = {"title": str(row), "acts": acts, "trail": acts_about(row)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def history_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """What was done to a row is in the trail."""
        query = f"about_table={self.opts.label_lower}&about_key={unquote(object_id)}"
        return redirect(f"{reverse('admin:people_act_changelist')}?{query}")

    def act_page(self, request: HttpRequest, object_id: str, *, act: ActPage) -> HttpResponse:
        """The page of an act; an act that is done leads back to what it was about."""
        if not self._may(request, act):
            raise PermissionDenied("Only the operator of this portal does this." if act.operator_only else "Only moderators do this.")
        row = None if act.of_list else self.get_object(request, unquote(object_id))
        if row is None and not act.of_list:
            raise Http404(f"There is no such {self.opts.verbose_name}.")
        form = act.form(request.POST) if request.method == "POST" else act.form(initial={"act_id": uuid4()})
        if form.is_valid():
            try:
                act.run(_moderator(request), row, form.cleaned_data)
            except ProblemError as error:
                form.add_error(None, error.detail)
            else:
                messages.success(request, f"{row}: {act.done}" if row is not None else act.done, extra_tags="done")
                return HttpResponseRedirect(self._after(act, row))
        context = {
            **self.admin_site.each_context(request),
            "title": act.label,
            "opts": self.opts,
            "act": act,
            "row": row,
            "row_path": self.list_path() if row is None else self.row_path(row),
            "list_path": self.list_path(),
            "form": form,
            "is_refused": lacks_second_factor(_moderator(request)),
        }
        return render(request, "admin/act.html", context, status=400 if form.errors else 200)

    def act_path(self, act: ActPage, row: models.Model | None) -> str:
        """Where the act is done."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_{act.name}"
        return reverse(name) if row is None else reverse(name, args=[admin.utils.quote(row.pk)])

    def list_path(self) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def row_path(self, row: models.Model) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[admin.utils.quote(row.pk)])

    def _after(self, act: ActPage, row: models.Model | None) -> str:
        return self.list_path() if row is None or act.returns_to_list else self.row_path(row)

    def _may(self, request: HttpRequest, act: ActPage) -> bool:
        return is_moderator(request) and (not act.operator_only or _moderator(request).is_superuser)


def is_moderator(request: HttpRequest) -> bool:
    """Whether who asks is one: that is all that the pages' permissions depend on."""
    return isinstance(request.user, User) and request.user.is_active and request.user.is_staff


def link_to(act: Act) -> str:
    """What an act of `acts_named` was about, with a link to its page."""
    words = getattr(act, "person", None) or act.about_name
    try:
        return format_html('<a href="{}">{}</a>', reverse(f"admin:{act.about_table.replace('.', '_')}_change", args=[act.about_key]), words)
    except NoReverseMatch:
        return words


def _moderator(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied("Only moderators do this.")
    return request.user
