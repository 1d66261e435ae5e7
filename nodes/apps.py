"""The app of nodes: who computes, with which key, for which owner."""

from django.apps import AppConfig


class NodesConfig(AppConfig):
    name = "nodes"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from nodes import openapi  # noqa: F401, PLC0415  once the apps are there: registers how the HTTP signature is documented
