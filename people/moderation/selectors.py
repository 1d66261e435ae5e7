"""Reads of the trail."""

from __future__ import annotations

from typing import Final

from django.db.models import BigIntegerField, Case, Model, OuterRef, QuerySet, Subquery, TextField, Value, When
from django.db.models.functions import Cast

from people.invitations.models import Invitation
from people.models import ResearcherApplication, User
from people.moderation.models import Act

TRAIL_SHOWN: Final = 20


def acts_named() -> QuerySet[Act]:
    """All acts, newest first, with who did each, and `person`: the name of whom it is about, where that is somebody who is still here."""
    key = Cast(OuterRef("about_key"), BigIntegerField())  # looked at only where the table says that it is a number
    person = Case(
        When(about_table="people.user", then=Subquery(User.objects.filter(pk=key).values("username"))),
        When(about_table="people.researcherapplication", then=Subquery(ResearcherApplication.objects.filter(pk=key).values("full_name"))),
        When(about_table="people.invitation", then=Subquery(Invitation.objects.filter(pk=key).values("email"))),
        default=Value(None),
        output_field=TextField(null=True),
    )
    return Act.objects.select_related("by").annotate(person=person).order_by("-at", "-pk")


def acts_about(row: Model) -> list[Act]:
    """The newest acts on a row."""
    return list(acts_named().filter(about_table=row._meta.label_lower, about_key=str(row.pk))[:TRAIL_SHOWN])
