"""What moderators' pages need: applications, a node in quarantine, an image that is held back, acts in the trail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from jobs.models import ImageApproval, ImageBreaker
from jobs.services.image_requests import image_request, image_request_decline
from ledger.models import Entry
from nodes.models import Node
from nodes.moderation import node_quarantine, node_release
from people.models import ResearcherApplication, User
from people.moderation.models import Act
from people.services import application_decide, application_submit


def moderation_make(moderator: User, researcher: User, applicants: Sequence[User], nodes: Sequence[Node]) -> dict[str, object]:
    """Two people apply, a third was declined; a node is in quarantine, another was. Returns the ids of what pages.py names."""
    purposes = (
        "Surrogates of interatomic potentials for perovskites, fitted to public data. Each run takes four hours on one GPU.",
        "Conformations of small peptides by simulated annealing, for a course of 30 students.",
    )
    first, second, third = applicants
    open_one = application_submit(
        applicant=first,
        full_name="Emmy Noether",
        affiliation="University of Erlangen, Mathematics",
        purpose=purposes[0],
        link="https://orcid.example.org/0000",
    )
    application_submit(applicant=second, full_name="Chien-Shiung Wu", affiliation="Columbia University", purpose=purposes[1], link="")
    declined = application_submit(applicant=third, full_name="R. Franklin", affiliation="none given", purpose="Mining.", link="")
    application_decide(application=declined, decided_by=moderator, is_approved=False, reason="Jobs here are scientific; this is not.")
    ResearcherApplication.objects.filter(pk=open_one.pk).update(created_at=timezone.now() - timedelta(days=3, hours=4))
    away, back = nodes
    node_quarantine(node=away, by=moderator, reason="Three results in a row that no other host agrees with.")
    node_quarantine(node=back, by=moderator, reason="Its clock is an hour off.")
    node_release(node=back, by=moderator, reason="Its owner set the clock.")
    asked = image_request(by=researcher, name="nexapod/tides:1.0", purpose="Tides of the North Sea; its Dockerfile is in our repository.")
    image_request_decline(
        request=image_request(by=researcher, name="bitnami/miner:latest", purpose="To see what happens then."),
        by=moderator,
        reason="No science.",
    )
    now = timezone.now()
    ImageBreaker.objects.create(
        image_name="nexapod/tides:0.9", code="image_unavailable", times=3, closed_at=now, closed_until=now + timedelta(minutes=40)
    )
    return {
        "application": open_one.pk,
        "quarantined": away.pk,
        "approval": ImageApproval.objects.order_by("name").values_list("pk", flat=True)[0],
        "act": Act.objects.order_by("-at").values_list("pk", flat=True)[0],
        "grant": Entry.objects.filter(kind="grant").order_by("pk").values_list("pk", flat=True)[0],
        "applicant": first.pk,
        "asked": asked.pk,
        "held": ImageBreaker.objects.get().pk,
    }
