"""Moderators' pages of nodes."""

from __future__ import annotations

from django.contrib import admin

from nodes.finding import keys_beginning, nodes_named, nodes_of_keys, nodes_of_people
from nodes.models import JoinToken, Node, NodeKey, NodeState
from nodes.moderation import node_expel, node_quarantine, node_release
from people.moderation.pages import ActPage, LookAdmin, filter_among, filter_named
from workers.protocol.messages.machine import Tier


@admin.register(Node)
class NodeAdmin(LookAdmin):
    says = "Every node that ever joined. Its profile is what its host says of itself."
    list_display = ("name", "key_id", "owner", "state", "tier", "benchmark_gflops", "last_seen_at", "clone_seen_at")
    list_filter = (
        "state",
        filter_among("tier", list(Tier)),
        ("clone_seen_at", filter_named(admin.EmptyFieldListFilter, "copied key", "all", "not seen", "seen")),
    )
    finders = (nodes_named, nodes_of_keys, nodes_of_people)
    search_help_text = "id, how name or key begins, owner's whole name or e-mail"
    list_select_related = ("owner",)
    ordering = ("-created_at",)
    fields = (
        "name", "owner", "state", "tier", "benchmark_gflops", "key_id", "created_at", "last_seen_at", "last_no_work", "clone_seen_at",
        "profile",
    )  # fmt: skip
    acts = (
        ActPage(
            name="quarantine",
            label="Quarantine",
            says=(
                "Gives this node no more work until a moderator lifts it. Its owner is told, and can't undo it.",
                "What it runs now goes on, is judged and paid like any other. It takes nothing back that was paid.",
            ),
            run=lambda by, row, data: node_quarantine(node=row, by=by, reason=data["reason"]),
            applies=lambda row: row.state not in {NodeState.QUARANTINED, NodeState.REVOKED},
            done="in quarantine; its owner is told.",
            is_grave=True,
        ),
        ActPage(
            name="release",
            label="Lift the quarantine",
            says=("Gives the node work again from its next exchange on.",),
            run=lambda by, row, data: node_release(node=row, by=by, reason=data["reason"]),
            applies=lambda row: row.state == NodeState.QUARANTINED,
            done="gets work again.",
        ),
        ActPage(
            name="revoke",
            label="Revoke for good",
            says=(
                "Ends the node's identity: its key opens nothing any more. What it runs now is lost and unpaid.",
                "What it earned and signed stays. This can't be undone; its owner joins the machine anew. Quarantine is the milder way.",
            ),
            run=lambda by, row, data: node_expel(node=row, by=by, reason=data["reason"]),
            applies=lambda row: row.state != NodeState.REVOKED,
            done="revoked.",
            is_grave=True,
        ),
    )


@admin.register(NodeKey)
class NodeKeyAdmin(LookAdmin):
    says = "Every key that a node has or had."
    list_display = ("key_id", "node", "created_at", "retired_at", "successor")
    finders = (keys_beginning,)
    search_help_text = "how the key's id begins"
    list_select_related = ("node", "successor")
    fields = ("key_id", "node", "created_at", "retired_at", "successor")


@admin.register(JoinToken)
class JoinTokenAdmin(LookAdmin):
    says = "Who made one-time tokens, and which node came of each."
    list_display = ("owner", "name", "created_at", "expires_at", "used_at", "node")
    list_select_related = ("owner", "node")
    fields = ("owner", "name", "created_at", "expires_at", "used_at", "node")
