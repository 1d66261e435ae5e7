"""Pages of the wall. Those of one's own nodes are in jobs/hosting: they show jobs."""

from django.urls import path

from nodes.wall.views import contributor_page, wall_page

urlpatterns = [
    path("wall/", wall_page, name="wall-page"),
    path("wall/<path:name>/", contributor_page, name="contributor-page"),
]
