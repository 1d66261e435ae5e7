"""Addresses of nodes, below /api/v1/; the project adds `/register` at the root."""

from django.urls import path

from nodes import api
from nodes.wall.api import WallView

urlpatterns = [
    path("coordinator", api.CoordinatorView.as_view(), name="coordinator"),
    path("join-tokens", api.JoinTokenView.as_view(), name="join-tokens"),
    path("wall", WallView.as_view(), name="wall"),
    path("nodes", api.NodeListView.as_view(), name="nodes"),
    path("nodes/self/key", api.NodeKeyView.as_view(), name="node-key"),
    path("nodes/<uuid:node_id>", api.NodeView.as_view(), name="node"),
    path("nodes/<uuid:node_id>/revoke", api.NodeRevokeView.as_view(), name="node-revoke"),
    path("nodes/<uuid:node_id>/pause", api.NodePauseView.as_view(), name="node-pause"),
    path("nodes/<uuid:node_id>/drain", api.NodeDrainView.as_view(), name="node-drain"),
    path("nodes/<uuid:node_id>/resume", api.NodeResumeView.as_view(), name="node-resume"),
]
