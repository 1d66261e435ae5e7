"""Django's admin, with our site as its default."""

from __future__ import annotations

from django.contrib.admin.apps import AdminConfig


class ModerationConfig(AdminConfig):
    default_site = "nexaportal.moderation.site.ModerationSite"
    default = False
