"""Every page of the portal and who looks at it: the one table behind `make screenshots`, the accessibility rules and the CSP check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class PageShown:
    """`path` may hold {state} for the scene's job in that state and {node} for its first node; `name` signs in, "" is nobody."""

    path: str
    name: str = ""


PAGES: Final = (
    PageShown("/"),
    PageShown("/accounts/login/"),
    PageShown("/accounts/signup/"),
    PageShown("/accounts/password/reset/"),
    PageShown("/jobs/", "ada"),
    PageShown("/jobs/", "lise"),
    PageShown("/jobs/{completed}/", "ada"),
    PageShown("/jobs/{disputed}/", "ada"),
    PageShown("/jobs/{leased}/", "ada"),
    PageShown("/nodes/", "lise"),
    PageShown("/nodes/", "ada"),
    PageShown("/ledger/"),
    PageShown("/ledger/3/"),
    PageShown("/live/"),
    PageShown("/docs/"),
    PageShown("/docs/researcher/"),
    PageShown("/docs/protocol/"),
    PageShown("/docs/api/"),
    PageShown("/notifications/", "ada"),
    PageShown("/notifications/settings/", "ada"),
    PageShown("/design/"),
    PageShown("/nowhere/"),
)
