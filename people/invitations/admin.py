"""Moderators' page of invitations."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.contrib import admin

from people.invitations.models import Invitation
from people.invitations.services import invitation_withdraw, person_invite_by_mail
from people.moderation.pages import ActPage, LookAdmin, ReasonForm, filter_named


class InviteForm(ReasonForm):
    email = forms.EmailField(max_length=254, label="E-mail", help_text="The link is sent there, and the account has this address.")
    field_order = ("email", "reason")


@admin.register(Invitation)
class InvitationAdmin(LookAdmin):
    says = "Who was asked to sign up. Links are known to their receivers only; another one for the same address ends the one before."
    list_display = ("email", "created_at", "expires_at", "inviter", "used_at", "account")
    list_filter = (("used_at", filter_named(admin.EmptyFieldListFilter, "state", "all", "not used", "used")),)
    list_select_related = ("invited_by", "account")
    ordering = ("-created_at", "-pk")
    fields = ("email", "created_at", "expires_at", "inviter", "used_at", "account")
    acts = (
        ActPage(
            name="invite",
            label="Invite somebody",
            says=(
                f"Sends a link to an address. It makes one account, and is good for {settings.NEXA_INVITATION_DAYS} days.",
                "Who comes by it is a contributor: submitting jobs takes an application like anybody's.",
            ),
            form=InviteForm,
            run=lambda by, row, data: person_invite_by_mail(email=data["email"], by=by, reason=data["reason"]),
            done="The invitation is on its way by mail.",
            of_list=True,
        ),
        ActPage(
            name="withdraw",
            label="Withdraw",
            says=("The link opens nothing from now on, and the address is forgotten.",),
            run=lambda by, row, data: invitation_withdraw(invitation=row, by=by, reason=data["reason"]),
            applies=lambda row: row.used_at is None,
            done="withdrawn.",
            is_grave=True,
            returns_to_list=True,
        ),
    )

    @admin.display(description="invited by", empty_value="the operator", ordering="invited_by__username")
    def inviter(self, invitation: Invitation) -> str | None:
        return None if invitation.invited_by is None else invitation.invited_by.username
