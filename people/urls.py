"""Addresses of people, below /api/v1/."""

from django.urls import path

from people.account_api import AccountView, StatementView
from people.api import MeView, TokenListView, TokenView

urlpatterns = [
    path("account", AccountView.as_view(), name="account"),
    path("account/statement", StatementView.as_view(), name="account-statement"),
    path("me", MeView.as_view(), name="me"),
    path("tokens", TokenListView.as_view(), name="tokens"),
    path("tokens/<int:token_id>", TokenView.as_view(), name="token"),
]
