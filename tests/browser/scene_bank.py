"""What the wall and the bank have before them: contributors who show themselves, a team, and work on many days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.utils import timezone

from nodes.wall.recording import JudgedWork, work_record
from nodes.wall.summing import standings_sum
from people.models import Team, TeamMember, User

HOSTILE_NAME = "<img src=x onerror=alert(1)>"


def wall_scene_make(contributors: Sequence[User], sciences: Sequence[str]) -> None:
    """Two of them are public, one under a hostile name, two in a team. Days before today are invented."""
    lise, emmy, chien, _ = contributors
    lise.display_name, lise.about, lise.is_public = "Lise M.", "Nights and weekends, two desktops under the stairs.", True
    chien.display_name, chien.is_public = HOSTILE_NAME, True
    for user in (lise, chien):
        user.save()
    team = Team.objects.create(name="Berlin nuclear")
    TeamMember.objects.create(user=lise, team=team, is_lead=True)
    TeamMember.objects.create(user=emmy, team=team)
    now = timezone.now()
    for place, owner in enumerate(contributors):
        for day in range(1, 300 // (place + 1)):
            if (day * 7 + place) % 11 < 5:
                continue
            work = 1_000 + (day * 7919 * (place + 3)) % 90_000
            judged = [JudgedWork(owner.pk, sciences[day % 4], is_accepted=True, work_micro=work, paid_micro=work)]
            judged += [JudgedWork(owner.pk, sciences[day % 4], is_accepted=False)] if day % (40 - 9 * place) == 0 else []
            work_record(judged, at=now - timedelta(days=day))
    standings_sum(today=now.date())
