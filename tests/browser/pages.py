"""Every page of the portal and who looks at it: the one table behind `make screenshots`, the accessibility rules and the CSP check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class PageShown:
    """`path` may hold {state} for the scene's job in that state, {node} for its first node, {link} for the link of its unlisted job.

    `name` signs in, "" is nobody.
    """

    path: str
    name: str = ""


PAGES: Final = (
    PageShown("/"),
    PageShown("/accounts/login/"),
    PageShown("/accounts/signup/"),
    PageShown("/accounts/password/reset/"),
    PageShown("/account/", "lise"),
    PageShown("/account/profile/", "lise"),
    PageShown("/account/tokens/", "lise"),
    PageShown("/account/research/", "lise"),
    PageShown("/account/team/", "lise"),
    PageShown("/accounts/2fa/", "lise"),
    PageShown("/accounts/email/", "lise"),
    PageShown("/accounts/sessions/", "lise"),
    PageShown("/accounts/password/change/", "lise"),
    PageShown("/accounts/reauthenticate/", "lise"),
    PageShown("/accounts/logout/", "lise"),
    PageShown("/jobs/", "ada"),
    PageShown("/jobs/", "lise"),
    PageShown("/jobs/new/", "ada"),
    PageShown("/jobs/new/", "lise"),
    PageShown("/jobs/new/?from=folding", "ada"),
    PageShown("/jobs/new/?from=blank", "ada"),
    PageShown("/jobs/new/?from=blank", "lise"),
    PageShown("/jobs/{completed}/clone/", "ada"),
    PageShown("/jobs/{completed}/", "ada"),
    PageShown("/jobs/{disputed}/", "ada"),
    PageShown("/jobs/{leased}/", "ada"),
    PageShown("/jobs/{folded}/results/", "ada"),
    PageShown("/jobs/{leased}/results/", "ada"),
    PageShown("/jobs/{folded}/results/files/final.pdb", "ada"),
    PageShown("/jobs/{folded}/results/files/final.pdb?draw=backbone", "ada"),
    PageShown("/jobs/{folded}/results/files/energies.csv", "ada"),
    PageShown("/jobs/{folded}/results/files/energies.csv?as=plot", "ada"),
    PageShown("/jobs/{folded}/results/files/summary.json", "ada"),
    PageShown("/jobs/{folded}/results/files/maps/contacts.npy", "ada"),
    PageShown("/jobs/{folded}/results/files/maps/contacts.png", "ada"),
    PageShown("/jobs/{folded}/results/files/report.svg", "ada"),
    PageShown("/jobs/{folded}/results/files/state.chk", "ada"),
    PageShown("/jobs/?state=completed&type=protein-folding&q=chignolin", "ada"),
    PageShown("/jobs/?q=nowhere", "ada"),
    PageShown("/jobs/?archived=yes", "ada"),
    PageShown("/jobs/{compared}/", "ada"),
    PageShown("/jobs/{compared}/runs/", "ada"),
    PageShown("/jobs/{failed}/", "ada"),
    PageShown("/jobs/{longest}/", "ada"),
    PageShown("/jobs/{longest}/"),
    PageShown("/jobs/{cancelled}/", "ada"),
    PageShown("/jobs/{completed}/retry/", "ada"),
    PageShown("/jobs/{unlisted}/visibility/", "ada"),
    PageShown("/jobs/shared/{link}/"),
    PageShown("/jobs/{public}/"),
    PageShown("/nodes/", "lise"),
    PageShown("/nodes/", "ada"),
    PageShown("/nodes/join/", "ada"),
    PageShown("/nodes/join/{join_waiting}/", "lise"),
    PageShown("/nodes/join/{join_arrived}/", "lise"),
    PageShown("/nodes/{node}/", "lise"),
    PageShown("/nodes/{node}/?span=day", "lise"),
    PageShown("/nodes/{node}/revoke/", "lise"),
    PageShown("/ledger/"),
    PageShown("/ledger/3/"),
    PageShown("/ledger/checkpoints/"),
    PageShown("/wall/"),
    PageShown("/wall/?period=7&science=protein-folding", "lise"),
    PageShown("/wall/?by=team"),
    PageShown("/wall/Lise M./"),
    PageShown("/bank/", "ada"),
    PageShown("/bank/", "lise"),
    PageShown("/bank/", "grace"),
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
