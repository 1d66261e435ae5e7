"""What moderators' pages show of rows: each value as the portal shows such values everywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django import template
from django.contrib.admin.templatetags.admin_list import result_headers
from django.contrib.admin.utils import label_for_field, lookup_field, quote
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model
from django.urls import NoReverseMatch, reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString

from nexaportal.templatetags import portal
from people.moderation.models import Act
from people.moderation.pages import link_to

register = template.Library()

_WIDE_FROM: Final = 60
"""Characters from which a text has a line of its own."""
_STATES: Final = frozenset({"state", "verdict"})
_AMOUNTS: Final = frozenset({"credits", "balance"})
"""Columns that admins make of sums: texts that are numbers."""
_ID: Final = re.compile(r"\b([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b")
_LABELS: Final = {
    "benchmark_gflops": "GFLOP/s a core",
    "clone_seen_at": "copied key seen",
    "date_joined": "joined",
    "failure_code": "reason",
    "idempotency_key": "key",
    "is_active": "account open",
    "is_public": "public",
    "is_staff": "moderator",
    "is_superuser": "operator",
    "item_id": "entry",
    "job_type": "type",
    "last_no_work": "why no work",
    "last_seen_at": "heard",
    "lease_expires_at": "lease ends",
    "replicas_max": "replicas at most",
    "researcher_approved_at": "researcher since",
}
"""What fields are called here, where that is another word than theirs."""


@dataclass(frozen=True)
class Shown:
    """A value of a row under its label. `is_wide`: it takes a whole line; `is_number`: it lines up with others."""

    label: str
    html: SafeString
    is_wide: bool
    is_number: bool

    @property
    def is_none(self) -> bool:
        return self.html == portal.NONE


@dataclass(frozen=True)
class LookRow:
    """A row of a list: its page, and what is shown of it; the first leads to the page."""

    path: str
    cells: list[Shown]


@dataclass(frozen=True)
class LookTable:
    """A list: its rows, and its columns, each with where to go to have the list sorted by it, and whether any row has a number there."""

    headers: list[dict[str, Any]]
    rows: list[LookRow]


@register.simple_tag
def look_table(cl: Any) -> LookTable:
    """A list as it is shown."""
    rows = _look_rows(cl)
    numbers = [any(row.cells[place].is_number for row in rows) for place in range(len(cl.list_display))]
    headers = [
        {**header, "text": _LABELS.get(name, header["text"]), "is_number": is_number}
        for name, header, is_number in zip(cl.list_display, result_headers(cl), numbers, strict=True)
    ]
    return LookTable(headers, rows)


def _look_rows(cl: Any) -> list[LookRow]:
    names = cl.list_display
    labels = {name: _label(name, cl.model, cl.model_admin) for name in names}
    return [
        LookRow(
            cl.url_for_result(row), [_shown(name, labels[name], row, cl.model_admin, links=place > 0) for place, name in enumerate(names)]
        )
        for row in cl.result_list
    ]


@register.simple_tag
def look_facts(form: Any) -> list[Shown]:
    """All that the page of a row shows, in the order of its admin's fields. Empty values are left out."""
    facts = [
        _shown(field.field["name"], _LABELS.get(field.field["name"], field.field["label"]), field.form.instance, field.model_admin)
        for fieldset in form
        for line in fieldset
        for field in line
    ]
    return [fact for fact in facts if not fact.is_none]


@register.simple_tag
def inline_rows(formset: Any) -> list[list[Shown]]:
    """The rows that belong to the one that a page is about."""
    return [look_facts(form) for form in _saved(formset)]


@register.filter
def act_about(act: Act) -> str:
    """What an act was about, linked."""
    return link_to(act)


def _saved(formset: Any) -> Iterator[Any]:
    return (form for form in formset if form.original is not None)


def _label(name: str, model: type[Model], model_admin: Any) -> str:
    return _LABELS.get(name) or str(label_for_field(name, model, model_admin)).removesuffix(" micro")


def _shown(name: str, label: str, row: Model, model_admin: Any, *, links: bool = True) -> Shown:
    try:
        field, _, value = lookup_field(name, row, model_admin)
    except ObjectDoesNotExist:
        return Shown(label, portal.NONE, is_wide=False, is_number=False)
    if field is not None and field.is_relation:
        value = getattr(row, field.name)
    elif field is not None and field.choices and name not in _STATES:
        value = dict(field.flatchoices).get(value, value)
    if value is None and field is None:
        value = getattr(getattr(model_admin, name, None), "empty_value_display", None)
    html = _html(name, value, links=links)
    is_number = name in _AMOUNTS or (isinstance(value, int | float | datetime) and not isinstance(value, bool))
    is_wide = isinstance(value, dict | list) or (isinstance(value, str) and not isinstance(value, SafeString) and len(value) > _WIDE_FROM)
    return Shown(_lowered(label.removesuffix(" micro")), html, is_wide and not str(value).startswith("sha256:"), is_number)


def _html(name: str, value: Any, *, links: bool) -> SafeString:  # noqa: PLR0911  a kind of value each
    if value is None or value in ("", {}, []):
        return portal.NONE
    if name in _STATES:
        return format_html('<span class="state state-{0}">{0}</span>', value)
    if isinstance(value, UUID) or str(value).startswith("sha256:"):
        return portal.digest(str(value)) if links else format_html("<code>{}</code>", portal.short(value))
    if isinstance(value, datetime):
        return portal.ago(value)
    if isinstance(value, Model) and links:
        return _link(value)
    if isinstance(value, dict):
        return format_html('<pre class="raw" tabindex="0">{}</pre>', json.dumps(value, indent=2, ensure_ascii=False))
    return SafeString(conditional_escape(_text(name, value)))


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_micro"):
        return portal.credits(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return portal.figure(value) if isinstance(value, float) else value if isinstance(value, str) else str(value)


def _link(row: Model) -> SafeString:
    try:
        path = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[quote(row.pk)])
    except NoReverseMatch:
        return format_html("{}", row)
    return format_html('<a href="{}">{}</a>', path, _ID.sub(r"\1", str(row)))


def _lowered(label: str) -> str:
    """As labels are written here: small, but for what is no common word."""
    return label if label in _LABELS.values() else label.lower()
