"""Forms of the account pages. What they hold is checked again by the services."""

from __future__ import annotations

from typing import Final

from django import forms

from people.models import ABOUT_MAX, DISPLAY_NAME_MAX, TEAM_NAME_MAX, Scope

LIFETIMES: Final = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("0", "until it is revoked"))


class ProfileForm(forms.Form):
    """What strangers may see."""

    display_name = forms.CharField(
        max_length=DISPLAY_NAME_MAX,
        required=False,
        label="Display name",
        help_text="Or a pseudonym. Without one your username stands there.",
    )
    about = forms.CharField(
        max_length=ABOUT_MAX,
        required=False,
        label="About you",
        widget=forms.Textarea(attrs={"rows": 3, "maxlength": ABOUT_MAX}),
        help_text=f"Plain text, at most {ABOUT_MAX} characters.",
    )
    is_public = forms.BooleanField(
        required=False,
        label="Show me on the wall",
        help_text="Off: strangers see nothing of you; your work counts without a name. On: the name, this text, your team and your work.",
    )


class TokenForm(forms.Form):
    """A token to mint."""

    name = forms.CharField(
        max_length=64, label="What it is for", help_text="For example “laptop” or “nightly scan”: it helps you to know which to revoke."
    )
    scopes = forms.MultipleChoiceField(
        choices=[(scope.value, f"{scope.value}: {scope.label}") for scope in Scope],
        widget=forms.CheckboxSelectMultiple,
        label="What it may do",
        help_text="As little as will do.",
    )
    days = forms.ChoiceField(choices=LIFETIMES, initial="90", label="How long it lives")


class ApplicationForm(forms.Form):
    """Somebody asks to submit jobs."""

    full_name = forms.CharField(
        max_length=120, label="Your name", help_text="As in your publications.", widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    affiliation = forms.CharField(
        max_length=160,
        label="Affiliation",
        help_text="University, institute, company; or “independent”.",
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    purpose = forms.CharField(
        max_length=4000,
        min_length=40,
        label="What you want to compute",
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text="Which question, with which program, about how many jobs of which length. At least a sentence.",
    )
    link = forms.URLField(
        max_length=300,
        required=False,
        label="A page about you or the project",
        assume_scheme="https",
        help_text="Where a moderator can see that it is you.",
    )


class TeamForm(forms.Form):
    """A team's name."""

    name = forms.CharField(
        max_length=TEAM_NAME_MAX, label="Name of the team", help_text="It is public: the wall ranks teams by the work of their members."
    )
