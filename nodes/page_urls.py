"""Pages of nodes."""

from django.urls import path

from nodes import views
from nodes.wall.views import contributor_page, wall_page

urlpatterns = [
    path("nodes/", views.nodes_page, name="nodes-page"),
    path("nodes/join-token/", views.join_token_page, name="join-token-page"),
    path("wall/", wall_page, name="wall-page"),
    path("wall/<path:name>/", contributor_page, name="contributor-page"),
]
