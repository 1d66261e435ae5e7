"""allauth's forms in this portal's words: labels that say what is wanted, and nothing in a field that a label says already."""

from __future__ import annotations

from typing import Any, Final

from allauth.account import forms as allauth_forms
from allauth.core import context
from allauth.socialaccount import forms as social_forms

from people.invitations.selectors import invitation_of

LABELS: Final = {
    "login": "Username or e-mail",
    "email": "E-mail",
    "oldpassword": "Present password",
    "remember": "Keep me signed in on this browser",
}


class _Worded:
    """Before a form of allauth: its fields get the words of LABELS. What isn't there keeps its own."""

    fields: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            field.label = LABELS.get(name, field.label)
            field.widget.attrs.pop("placeholder", None)


class SignInForm(_Worded, allauth_forms.LoginForm):  # type: ignore[misc]  # allauth has no types; so below
    """With a password; a passkey needs no form."""


class _Invited:
    """Before a form of allauth: who was invited has the address that the invitation is for, and no other."""

    fields: dict[str, Any]
    initial: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (invitation := invitation_of(context.request)) is not None:
            self.initial["email"] = invitation.email
            self.fields["email"].disabled = True  # what a browser sends for it is not looked at
            self.fields["email"].help_text = "The address that you are invited under. Another one can be added later."


class SignUpForm(_Worded, _Invited, allauth_forms.SignupForm):  # type: ignore[misc]
    """A new account."""


class SignUpElsewhereForm(_Worded, _Invited, social_forms.SignupForm):  # type: ignore[misc]
    """A new account for who signs in with one from elsewhere."""


class EmailForm(_Worded, allauth_forms.AddEmailForm):  # type: ignore[misc]
    """Another address of an account."""


class PasswordChangeForm(_Worded, allauth_forms.ChangePasswordForm):  # type: ignore[misc]
    """By somebody who knows the present one."""


class PasswordSetForm(_Worded, allauth_forms.SetPasswordForm):  # type: ignore[misc]
    """The first one of an account that had none."""


class PasswordForgottenForm(_Worded, allauth_forms.ResetPasswordForm):  # type: ignore[misc]
    """Asks for the link."""


class PasswordResetForm(_Worded, allauth_forms.ResetPasswordKeyForm):  # type: ignore[misc]
    """A new one, by the link."""
