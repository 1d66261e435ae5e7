"""Moderators' pages of nodes. Nothing is edited by hand; the actions call the services."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from nodes.models import JoinToken, Node, NodeKey
from nodes.services import node_quarantine, node_release, node_revoke
from workers.protocol.problems import ProblemError

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin  # generic to the type checker only


class _ReadOnlyAdmin(_ModelAdmin):
    """To look at: rows come and go through the services only."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Node)
class NodeAdmin(_ReadOnlyAdmin):
    """Nodes, with quarantine and revocation."""

    list_display = ("name", "owner", "state", "tier", "benchmark_gflops", "last_seen_at", "clone_seen_at")
    list_filter = ("state", "tier", ("clone_seen_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "keys__key_id", "owner__username")
    exclude = ("public_key",)
    actions = ["nodes_quarantine", "nodes_release", "nodes_revoke"]

    def has_moderate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("nodes.change_node")

    @admin.action(description="Quarantine", permissions=["moderate"])
    def nodes_quarantine(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._each(request, queryset, node_quarantine)

    @admin.action(description="End the quarantine", permissions=["moderate"])
    def nodes_release(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._each(request, queryset, node_release)

    @admin.action(description="Revoke for good", permissions=["moderate"])
    def nodes_revoke(self, request: HttpRequest, queryset: QuerySet[Node]) -> None:
        self._each(request, queryset, node_revoke)

    def _each(self, request: HttpRequest, nodes: QuerySet[Node], act: Callable[..., Node]) -> None:
        for node in nodes:
            try:
                act(node=node)
            except ProblemError as error:
                self.message_user(request, f"{node.name}: {error.detail}", messages.ERROR)


@admin.register(NodeKey)
class NodeKeyAdmin(_ReadOnlyAdmin):
    """Every key that a node has or had."""

    list_display = ("key_id", "node", "created_at", "retired_at", "successor")
    search_fields = ("key_id", "node__name", "node__owner__username")
    exclude = ("public_key",)


@admin.register(JoinToken)
class JoinTokenAdmin(_ReadOnlyAdmin):
    """Join tokens: who minted them, and which node came of each."""

    list_display = ("owner", "created_at", "expires_at", "used_at", "node")
    exclude = ("secret_sha256",)
