"""The form of a transfer. What it holds is checked again by the service."""

from __future__ import annotations

from decimal import Decimal

from django import forms

from people.transfers.services import AMOUNT_LEAST_MICRO, MICRO


class TransferForm(forms.Form):
    """To whom, and how much. `transfer` names this form, so that it gives once, however often it is sent."""

    to = forms.UUIDField(
        label="To which account",
        help_text="Its id in the public ledger. Who it belongs to finds it on their page Bank, under “Your account”.",
        error_messages={"invalid": "Expected an id such as 0b9f4a1e-3c55-4f0d-8f4f-7a1d5f3c2b02. Copy it whole."},
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "code"}),
    )
    credits = forms.DecimalField(
        min_value=Decimal(AMOUNT_LEAST_MICRO) / MICRO,
        max_digits=18,
        decimal_places=6,
        label="Credits",
        error_messages={"invalid": "Expected a number such as 2.5.", "min_value": "Expected %(limit_value)s credits or more."},
        widget=forms.NumberInput(attrs={"inputmode": "decimal", "step": "any"}),
    )
    transfer = forms.UUIDField(widget=forms.HiddenInput)
