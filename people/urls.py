"""Addresses of people, below /api/v1/."""

from django.urls import path

from people.api import MeView, TokenListView, TokenView

urlpatterns = [
    path("me", MeView.as_view(), name="me"),
    path("tokens", TokenListView.as_view(), name="tokens"),
    path("tokens/<int:token_id>", TokenView.as_view(), name="token"),
]
