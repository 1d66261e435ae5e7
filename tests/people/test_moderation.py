"""Acts on people and their credits, and the trail that they leave."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from allauth.mfa.models import Authenticator
from django.db import DatabaseError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from ledger.models import Entry
from ledger.movements import CreditsInsufficientError, movements_post
from ledger.services import account_of, grant_post, reservation_of, treasury_account
from people.errors import (
    ActPointlessError,
    EntryIrreversibleError,
    GrantTooLargeError,
    ModeratorInterestError,
    ModeratorRequiredError,
    NameTakenError,
    ReasonMissingError,
    SecondFactorRequiredError,
)
from people.models import Scope, Team, User
from people.moderation import services
from people.moderation.models import Act
from people.moderation.selectors import acts_about, acts_named
from people.services import application_decide, application_submit, researcher_approve, token_mint
from people.team_services import team_create
from tests.factories.people import moderator_make, operator_make, user_make

pytestmark = pytest.mark.django_db

CREDIT = 1_000_000


def granted(to: User, by: User, amount_micro: int = CREDIT, **changed: Any) -> Entry:
    fields: dict[str, Any] = {"reason": "For the course.", "act_id": uuid4()} | changed
    return services.credits_grant(to=to, by=by, amount_micro=amount_micro, **fields)


def balance(user: User) -> int:
    account = account_of(user=user)
    account.refresh_from_db()
    return account.balance_micro


# --- the trail ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    ["UPDATE people_act SET reason = 'another'", "DELETE FROM people_act", "TRUNCATE people_act"],
    ids=["update", "delete", "truncate"],
)
def test_what_is_in_the_trail_stays(statement: str) -> None:
    """Also to the owner of the tables, as which tests run."""
    granted(user_make(), moderator_make())
    connection.check_constraints()  # a TRUNCATE is refused for what waits for the commit, too
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert Act.objects.get().reason == "For the course."


def test_people_have_no_name_in_the_trail_and_one_on_its_pages() -> None:
    user, moderator = user_make("margarete"), moderator_make()
    services.account_close(user=user, by=moderator, reason="Asked for it.")
    assert acts_about(user) == [Act.objects.get()]
    assert acts_named().get().person == "margarete"  # type: ignore[attr-defined]  # annotated
    assert Act.objects.get().about_name == f"account {user.pk}"
    user.delete()
    assert acts_named().get().person is None  # type: ignore[attr-defined]


# --- grants ------------------------------------------------------------------------------------------------------------


def test_a_grant_is_an_entry_that_names_its_act() -> None:
    user, moderator, act_id = user_make(), moderator_make(), uuid4()
    entry = granted(user, moderator, 2 * CREDIT, act_id=act_id, reason=" For \n the course. ")
    assert balance(user) == 2 * CREDIT
    assert (entry.kind, entry.idempotency_key, entry.evidence) == ("grant", f"grant:act:{act_id}", {"reason": "For the course."})
    act = Act.objects.get(pk=act_id)
    assert (act.by, act.kind, act.about_key, act.detail) == (moderator, "credits_granted", str(user.pk), {"amount_micro": "2000000"})


def test_a_form_that_is_sent_twice_grants_once() -> None:
    user, moderator, act_id = user_make(), moderator_make(), uuid4()
    granted(user, moderator, act_id=act_id)
    with pytest.raises(ActPointlessError, match="before"):
        granted(user, moderator, act_id=act_id)
    assert balance(user) == CREDIT


def test_what_one_moderator_grants_in_a_day_is_bounded() -> None:
    user, moderator, other = user_make(), moderator_make(), moderator_make()
    with override_settings(NEXA_GRANT_DAY_MICRO=3 * CREDIT):
        granted(user, moderator, 2 * CREDIT)
        for amount in (0, -CREDIT, 2 * CREDIT):
            with pytest.raises(GrantTooLargeError, match="at most 1 credits"):
                granted(user, moderator, amount)
        granted(user, other, 3 * CREDIT)
        assert services.grants_left_micro(by=moderator, now=timezone.now() + timedelta(hours=25)) == 3 * CREDIT
    assert balance(user) == 5 * CREDIT


def test_a_reason_that_is_public_is_short() -> None:
    for reason in ("", " ", "x" * 301):
        with pytest.raises(ReasonMissingError, match="public"):
            granted(user_make(), moderator_make(), reason=reason)
    assert not Entry.objects.exists()


# --- reversals ---------------------------------------------------------------------------------------------------------


def test_a_reversal_is_an_entry_of_its_own_and_the_first_stays() -> None:
    user, moderator = user_make(), moderator_make()
    entry = granted(user, moderator)
    before = (entry.evidence, entry.created_at)
    reversal = services.entry_reverse(entry=entry, by=moderator, reason="The wrong person.")
    assert (balance(user), treasury_account().balance_micro) == (0, 0)
    assert (reversal.kind, reversal.idempotency_key) == ("reversal", f"reversal:{entry.pk}")
    act = Act.objects.get(kind="entry_reversed")
    assert reversal.evidence == {"entry": str(entry.pk), "reason": f"The wrong person. (act {act.pk})"}
    entry.refresh_from_db()
    assert (entry.evidence, entry.created_at) == before


def test_what_was_reversed_is_not_reversed_again() -> None:
    user, moderator = user_make(), moderator_make()
    entry = granted(user, moderator)
    reversal = services.entry_reverse(entry=entry, by=moderator, reason="The wrong person.")
    for again in (entry, reversal):
        with pytest.raises(EntryIrreversibleError):
            services.entry_reverse(entry=again, by=moderator, reason="Once more.")
    assert Entry.objects.count() == 2
    assert Act.objects.filter(kind="entry_reversed").count() == 1


def test_spent_credits_are_not_taken_back() -> None:
    user, moderator = user_make(), moderator_make()
    entry = granted(user, moderator)
    movements_post([reservation_of(account=account_of(user=user), job_id=uuid4(), amount_micro=1)])
    with pytest.raises(CreditsInsufficientError):
        services.entry_reverse(entry=entry, by=moderator, reason="The wrong person.")
    assert not Act.objects.filter(kind="entry_reversed").exists()


def test_a_reservation_is_no_matter_of_moderators() -> None:
    user = user_make()
    granted(user, moderator_make())
    movements_post([reservation_of(account=account_of(user=user), job_id=uuid4(), amount_micro=1)])
    with pytest.raises(EntryIrreversibleError, match="reservation"):
        services.entry_reverse(entry=Entry.objects.get(kind="reservation"), by=moderator_make(), reason="Too much.")


# --- who may, and about whom ---------------------------------------------------------------------------------------------


def test_nobody_acts_on_their_own_account() -> None:
    moderator, operator = moderator_make(), operator_make()
    own = grant_post(to=account_of(user=moderator), amount_micro=1, reason="test", idempotency_key="own")
    application = application_submit(applicant=moderator, full_name="M", affiliation="N", purpose="O", link="")
    acts: list[Callable[[], object]] = [
        lambda: granted(moderator, moderator),
        lambda: services.entry_reverse(entry=own, by=moderator, reason="Mine."),
        lambda: services.account_reopen(user=moderator, by=moderator, reason="Mine."),
        lambda: services.moderator_dismiss(user=operator, by=operator, reason="Mine."),
        lambda: researcher_approve(user=moderator, approved_by=moderator, reason="Mine."),
        lambda: application_decide(application=application, decided_by=moderator, is_approved=True, reason="Mine."),
    ]
    for act in acts:
        with pytest.raises(ModeratorInterestError):
            act()
    assert not Act.objects.exists()
    assert Entry.objects.count() == 1


def test_others_than_moderators_do_none_of_it() -> None:
    user, stranger = user_make(), user_make()
    entry = grant_post(to=account_of(user=user), amount_micro=1, reason="test", idempotency_key="one")
    token, _ = token_mint(owner=user, name="laptop", scopes=Scope.values)
    team = team_create(lead=user, name="Alvarez")
    for by in (stranger, user_make(is_staff=True, is_active=False)):
        for act in (
            lambda by=by: granted(user, by),
            lambda by=by: services.entry_reverse(entry=entry, by=by, reason="x"),
            lambda by=by: services.account_close(user=user, by=by, reason="x"),
            lambda by=by: services.token_end(token=token, by=by, reason="x"),
            lambda by=by: services.team_name_replace(team=team, by=by, name="Other", reason="x"),
            lambda by=by: services.team_remove(team=team, by=by, reason="x"),
            lambda by=by: services.moderator_appoint(user=user, by=by, reason="x"),
        ):
            with pytest.raises(ModeratorRequiredError):
                act()
    assert not Act.objects.exists()


def test_a_moderator_without_a_second_factor_looks_and_does_not_act() -> None:
    user, moderator = user_make(), user_make(is_staff=True)
    Authenticator.objects.create(user=moderator, type=Authenticator.Type.RECOVERY_CODES, data={})
    with pytest.raises(SecondFactorRequiredError, match="/accounts/2fa/"):
        granted(user, moderator)
    assert not Entry.objects.exists()
    with override_settings(NEXA_MODERATOR_SECOND_FACTOR=False):
        granted(user, moderator)
    Authenticator.objects.create(user=moderator, type=Authenticator.Type.WEBAUTHN, data={})
    granted(user, moderator)
    assert balance(user) == 2 * CREDIT


def test_the_operator_approves_by_command_without_an_account() -> None:
    assert researcher_approve(user=user_make(), approved_by=None).is_researcher
    assert Act.objects.get().by is None


def test_moderators_are_appointed_and_dismissed_by_the_operator_only() -> None:
    user, moderator, operator = user_make(), moderator_make(), operator_make()
    with pytest.raises(ModeratorRequiredError):
        services.moderator_appoint(user=user, by=moderator, reason="A friend.")
    assert services.moderator_appoint(user=user, by=operator, reason="Asked, and trusted.").is_staff
    with pytest.raises(ActPointlessError):
        services.moderator_appoint(user=user, by=operator, reason="Again.")
    with pytest.raises(ModeratorRequiredError):
        services.account_close(user=user, by=moderator, reason="Against a colleague.")
    assert not services.moderator_dismiss(user=user, by=operator, reason="Has left.").is_staff
    assert list(Act.objects.order_by("at").values_list("kind", flat=True)) == ["moderator_appointed", "moderator_dismissed"]


# --- accounts, tokens, teams ---------------------------------------------------------------------------------------------


def test_an_account_is_closed_and_reopened() -> None:
    user, moderator = user_make(), moderator_make()
    assert not services.account_close(user=user, by=moderator, reason="Sold its key.").is_active
    with pytest.raises(ActPointlessError):
        services.account_close(user=user, by=moderator, reason="Again.")
    assert services.account_reopen(user=user, by=moderator, reason="It was another.").is_active


def test_a_leaked_token_is_ended_once() -> None:
    token, _ = token_mint(owner=user_make(), name="laptop", scopes=Scope.values)
    moderator = moderator_make()
    assert services.token_end(token=token, by=moderator, reason="It is on a public page.").revoked_at is not None
    with pytest.raises(ActPointlessError):
        services.token_end(token=token, by=moderator, reason="Again.")


def test_a_team_is_renamed_to_a_name_that_is_free_and_removed() -> None:
    team, moderator = team_create(lead=user_make(), name="Offence"), moderator_make()
    team_create(lead=user_make(), name="Alvarez")
    with pytest.raises(NameTakenError):
        services.team_name_replace(team=team, by=moderator, name="alvarez", reason="It offends.")
    assert not Act.objects.exists()
    services.team_name_replace(team=team, by=moderator, name="Team 7", reason="It offends.")
    assert Act.objects.get().detail == {"from": "Offence", "to": "Team 7"}
    services.team_remove(team=team, by=moderator, reason="It came back.")
    assert not Team.objects.filter(pk=team.pk).exists()
    assert acts_named().first().about_name == "Team 7"  # type: ignore[union-attr]
