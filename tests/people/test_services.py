"""people/services.py and people/selectors.py on a real database."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from ledger.models import Entry
from ledger.services import account_of
from people import services
from people.errors import (
    ModeratorRequiredError,
    TokenExpiryPastError,
    TokenScopesInvalidError,
    TokensTooManyError,
)
from people.models import ApiToken, Scope
from people.selectors import roles_of, scopes_of, token_find, tokens_of
from people.services import researcher_approve, token_mint, token_revoke, token_use_record
from tests.factories.people import moderator_make, researcher_make, user_make

pytestmark = pytest.mark.django_db


def test_minted_token_stores_only_a_hash() -> None:
    token, secret = token_mint(owner=user_make(), name="laptop", scopes=[Scope.JOBS_READ])
    assert re.fullmatch(r"nexa_[A-Za-z0-9_-]{43}", secret)
    assert bytes(token.secret_sha256) == hashlib.sha256(secret.encode()).digest()
    stored = ApiToken.objects.filter(pk=token.pk).values().get()
    assert secret not in repr({**stored, "secret_sha256": bytes(stored["secret_sha256"])})


def test_token_is_found_by_its_secret_only() -> None:
    token, secret = token_mint(owner=user_make(), name="laptop", scopes=[Scope.JOBS_READ])
    assert token_find(secret=secret) == token
    assert token_find(secret=secret[:-1]) is None
    assert token_find(secret="nexa_\ud800") is None


@pytest.mark.parametrize("scopes", [[], ["jobs:everything"], [Scope.JOBS_READ, "\x00"]])
def test_scopes_that_do_not_exist_are_refused(scopes: list[str]) -> None:
    with pytest.raises(TokenScopesInvalidError):
        token_mint(owner=user_make(), name="laptop", scopes=scopes)


def test_expiry_in_the_past_is_refused() -> None:
    with pytest.raises(TokenExpiryPastError):
        token_mint(owner=user_make(), name="laptop", scopes=Scope.values, expires_at=timezone.now())


def test_live_tokens_are_limited_and_dead_ones_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "TOKENS_PER_OWNER_MAX", 2)
    owner = user_make()
    first, _ = token_mint(owner=owner, name="a", scopes=Scope.values)
    token_mint(owner=owner, name="b", scopes=Scope.values)
    with pytest.raises(TokensTooManyError):
        token_mint(owner=owner, name="c", scopes=Scope.values)
    token_mint(owner=user_make(), name="another's", scopes=Scope.values)
    token_revoke(token=first)
    token_mint(owner=owner, name="c", scopes=Scope.values)
    ApiToken.objects.filter(name="c").update(expires_at=timezone.now() - timedelta(seconds=1))
    token_mint(owner=owner, name="d", scopes=Scope.values)


def test_revoking_twice_keeps_the_first_time() -> None:
    token, _ = token_mint(owner=user_make(), name="laptop", scopes=Scope.values)
    first = token_revoke(token=token).revoked_at
    assert first is not None
    assert token_revoke(token=token).revoked_at == first


def test_last_use_is_written_once_a_minute() -> None:
    token, _ = token_mint(owner=user_make(), name="laptop", scopes=Scope.values)
    start = timezone.now()
    for seconds, expected in ((0, 0), (59, 0), (60, 60)):
        token_use_record(token=token, now=start + timedelta(seconds=seconds))
        token.refresh_from_db()
        assert token.last_used_at == start + timedelta(seconds=expected)


def test_tokens_of_lists_own_ones_newest_first() -> None:
    owner = user_make()
    tokens = [token_mint(owner=owner, name=name, scopes=Scope.values)[0] for name in "ab"]
    token_mint(owner=user_make(), name="another's", scopes=Scope.values)
    assert list(tokens_of(owner=owner)) == tokens[::-1]


def test_approval_dates_the_researcher_and_grants_once() -> None:
    user, moderator = user_make(), moderator_make()
    with override_settings(NEXA_START_GRANT_MICRO=7_000_000):
        approved = researcher_approve(user=user, approved_by=moderator).researcher_approved_at
        assert researcher_approve(user=user, approved_by=moderator).researcher_approved_at == approved
    assert approved is not None
    account = account_of(user=user)
    account.refresh_from_db()
    assert account.balance_micro == 7_000_000
    assert Entry.objects.filter(postings__account=account).count() == 1


def test_approval_without_a_configured_grant_posts_nothing() -> None:
    user = user_make()
    with override_settings(NEXA_START_GRANT_MICRO=0):
        assert researcher_approve(user=user, approved_by=moderator_make()).is_researcher
    assert Entry.objects.count() == 0


def test_only_active_staff_approve() -> None:
    user, former = user_make(), moderator_make()
    former.is_active = False
    for person in (user_make(), researcher_make(), former):
        with pytest.raises(ModeratorRequiredError):
            researcher_approve(user=user, approved_by=person)
    user.refresh_from_db()
    assert not user.is_researcher


def test_roles_follow_the_account() -> None:
    assert roles_of(user=user_make()) == ["contributor"]
    assert roles_of(user=researcher_make()) == ["contributor", "researcher"]
    assert roles_of(user=moderator_make()) == ["contributor", "moderator"]


def test_session_has_every_scope_and_a_token_its_own() -> None:
    token, _ = token_mint(owner=user_make(), name="laptop", scopes=[Scope.JOBS_WRITE, Scope.JOBS_READ])
    assert scopes_of(token=None) == sorted(Scope.values)
    assert scopes_of(token=token) == ["jobs:read", "jobs:write"]


def test_command_prints_a_secret_that_works() -> None:
    user, out = user_make("ada"), StringIO()
    call_command("token_mint", "ada", "--scope", "jobs:read", "--days", "3", stdout=out)
    token = token_find(secret=out.getvalue().strip())
    assert token is not None
    assert (token.owner, token.scopes) == (user, ["jobs:read"])
    assert token.expires_at is not None
    assert token.expires_at > timezone.now() + timedelta(days=2)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nobody"], "no user"), (["ada", "--days", "0"], "later"), (["ada", "--days", "999999999"], "calendar")],
)
def test_command_says_why_it_failed(arguments: list[str], said: str) -> None:
    user_make("ada")
    with pytest.raises(CommandError, match=said):
        call_command("token_mint", *arguments)
