"""Forms as `portal/_fields.html` draws them: what an input says it is described by is there to be read."""

from __future__ import annotations

import re

from django import forms
from django.template.loader import render_to_string


class AllKindsForm(forms.Form):
    name = forms.CharField(help_text="As on the door.")
    agreed = forms.BooleanField(help_text="To the terms.")
    colour = forms.ChoiceField(choices=[("red", "red"), ("blue", "blue")], widget=forms.RadioSelect, help_text="One of them.")


def test_help_and_errors_of_every_kind_of_field_are_where_its_input_says() -> None:
    text = render_to_string("portal/_fields.html", {"form": AllKindsForm({})})
    named = [name for names in re.findall(r'aria-describedby="([^"]*)"', text) for name in names.split()]
    assert sorted(named) == sorted(f"id_{field}_{what}" for field in ("name", "agreed", "colour") for what in ("helptext", "error"))
    assert [text.count(f'id="{name}"') for name in named] == [1] * len(named)
    for field in ("name", "agreed", "colour"):
        assert re.search(rf'id="id_{field}_error"[^>]*><p>This field is required.</p>', text)


def test_a_form_that_nobody_has_sent_shows_no_error() -> None:
    assert "_error" not in render_to_string("portal/_fields.html", {"form": AllKindsForm()})
