"""Pages of nodes."""

from django.urls import path

from nodes import views

urlpatterns = [
    path("nodes/", views.nodes_page, name="nodes-page"),
    path("nodes/join-token/", views.join_token_page, name="join-token-page"),
]
