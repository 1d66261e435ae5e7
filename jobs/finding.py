"""What moderators' search boxes find of jobs and replicas, each by an index (people/moderation/finding.py)."""

from __future__ import annotations

from uuid import UUID

from django.contrib.postgres.search import SearchQuery

from jobs.listing import words_of
from jobs.models import Job, Replica
from nodes.finding import nodes_named
from people.moderation.finding import FOUND_MAX, people_called, uuid_of


def jobs_by_id(text: str) -> list[UUID]:
    return [found] if (found := uuid_of(text)) else []


def jobs_with_words(text: str) -> list[UUID]:
    """All are words of the label or the title; the last may be the beginning of one."""
    if not (words := words_of(text)):
        return []
    query = SearchQuery(" & ".join(words) + ":*", config="simple", search_type="raw")
    return list(Job.objects.filter(words=query).values_list("pk", flat=True)[:FOUND_MAX])


def jobs_of_people(text: str) -> list[UUID]:
    """The newest of each person of this name or address, archived or not."""
    return [
        pk
        for owner in people_called(text)
        for is_archived in (False, True)
        for pk in Job.objects.filter(owner=owner, is_archived=is_archived)
        .order_by("-submitted_at", "-pk")
        .values_list("pk", flat=True)[:FOUND_MAX]
    ]


def replicas_by_id(text: str) -> list[UUID]:
    """Its own id, or that of its job."""
    found = uuid_of(text)
    if found is None:
        return []
    return [found, *Replica.objects.filter(job=found).values_list("pk", flat=True)[:FOUND_MAX]]


def replicas_of_nodes(text: str) -> list[UUID]:
    """Of nodes with this id, or whose name begins so."""
    return list(Replica.objects.filter(node__in=nodes_named(text)).values_list("pk", flat=True)[:FOUND_MAX])
