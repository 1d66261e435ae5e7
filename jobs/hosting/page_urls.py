"""Pages of joining and of nodes."""

from django.urls import path

from jobs.hosting import joining_views, node_views

urlpatterns = [
    path("nodes/", node_views.nodes_page, name="nodes-page"),
    path("nodes/join/", joining_views.join_page, name="join-page"),
    path("nodes/join/<int:token_id>/", joining_views.join_watch_page, name="join-watch-page"),
    path("nodes/join/<int:token_id>/fragment/", joining_views.join_fragment, name="join-fragment"),
    path("nodes/<uuid:node_id>/", node_views.node_page, name="node-page"),
    path("nodes/<uuid:node_id>/fragment/", node_views.node_fragment, name="node-fragment"),
    path("nodes/<uuid:node_id>/revoke/", node_views.node_revoke_page, name="node-revoke-page"),
    path("nodes/<uuid:node_id>/<str:act>/", node_views.node_act, name="node-act"),
]
