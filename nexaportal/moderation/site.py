"""The site of the admin: whose pages it takes in, and the rooms that its bar leads to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from allauth.account.decorators import secure_admin_login
from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.text import capfirst

from nexaportal.moderation.desk import desk_read
from people.moderation.pages import LookAdmin
from people.page_users import user_of


@dataclass(frozen=True)
class Room:
    """A link of the bar: it leads to `table`, and holds `others` too. Tables by their names in the names of addresses."""

    name: str
    table: str
    query: str = ""
    others: tuple[str, ...] = ()


ROOMS: Final = (
    Room("Applications", "people_researcherapplication"),
    Room("Disputes", "jobs_job", "?state__exact=disputed", ("jobs_ruling", "jobs_replica")),
    Room("Images", "jobs_imageapproval", others=("jobs_imagerequest", "jobs_imagebreaker")),
    Room("Nodes", "nodes_node", others=("nodes_nodekey", "nodes_jointoken")),
    Room("People", "people_user", others=("people_invitation", "people_apitoken", "people_team")),
    Room("Ledger", "ledger_entry", others=("ledger_account", "ledger_checkpoint", "ledger_coordinatorsuccession")),
    Room("Trail", "people_act"),
)


class ModerationSite(AdminSite):
    """Moderators' pages. It takes in LookAdmins only: what libraries register could be edited, and moderators have no use for it."""

    site_title = site_header = "Moderation"
    enable_nav_sidebar = False

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        if admin_class is not None and issubclass(admin_class, LookAdmin):
            super().register(model_or_iterable, admin_class, **options)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Moderators sign in as everybody does, with their second factor and under the same limits of attempts."""
        view: Callable[..., HttpResponse] = secure_admin_login(super().login)
        return view(request, extra_context)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        return {**super().each_context(request), **_rooms(self, request.path)}

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The desk."""
        desk = desk_read(moderator=user_of(request), now=timezone.now())
        context = {**self.each_context(request), "title": "Desk", "desk": desk, "tables": self.get_app_list(request)}
        return TemplateResponse(request, "admin/index.html", {**context, **(extra_context or {})})

    def app_index(self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """There are no pages of apps: the desk has all tables."""
        return self.index(request, extra_context)


def _rooms(site: AdminSite, path: str) -> dict[str, Any]:
    """`rooms` of the bar, and `siblings`: the tables of the room where one is."""
    desk = reverse("admin:index")
    rooms = [{"name": "Desk", "href": desk, "is_here": path == desk}]
    siblings: list[dict[str, Any]] = []
    for room in ROOMS:
        tables = [
            {"name": name, "href": href, "is_here": path.startswith(href)} for name, href in _tables(site, (room.table, *room.others))
        ]
        is_here = any(table["is_here"] for table in tables)
        rooms.append({"name": room.name, "href": f"{tables[0]['href']}{room.query}", "is_here": is_here})
        siblings = tables if is_here and len(tables) > 1 else siblings
    return {"rooms": rooms, "siblings": siblings}


def _tables(site: AdminSite, names: tuple[str, ...]) -> list[tuple[str, str]]:
    plurals = {f"{model._meta.app_label}_{model._meta.model_name}": str(model._meta.verbose_name_plural) for model in site._registry}
    return [(capfirst(plurals[name]), reverse(f"admin:{name}_changelist")) for name in names]
