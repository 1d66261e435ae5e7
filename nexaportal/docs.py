"""The documentation as pages: the repository's own Markdown, listed in one table, rendered once a process.

1. HTML in Markdown is shown as text, a comment not at all. Nothing here comes from a stranger; that it could do no harm is the point.
2. A link to a page of the table leads to that page; one to another file of the repository, which no portal serves, is only its words.
3. Headings have the anchors that they have on code hosts, so that one link works in both places.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET
from markdown_it import MarkdownIt
from markdown_it.token import Token


@dataclass(frozen=True)
class DocPage:
    """A page of the documentation: `file` is below `docs/`."""

    slug: str
    file: str
    title: str
    summary: str


@dataclass(frozen=True)
class Section:
    """A group of the table of contents."""

    title: str
    pages: tuple[DocPage, ...]


@dataclass(frozen=True)
class Rendered:
    """A page as HTML, split after its title, and its headings of the second level as (anchor, words)."""

    title_html: str
    html: str
    headings: tuple[tuple[str, str], ...]


SECTIONS: Final = (
    Section(
        "Start",
        (
            DocPage("researcher", "quickstart/researcher.md", "Compute something", "From a descriptor to a result that proves itself."),
            DocPage("contributor", "quickstart/contributor.md", "Lend a machine", "Join, work, be paid, and keep the key."),
            DocPage("auditor", "quickstart/auditor.md", "Check the portal", "The whole ledger, or one result, without trusting us."),
        ),
    ),
    Section(
        "Hosts",
        (
            DocPage("host", "host.md", "Running a host", "What it does to your machine, installing, manners, why there is no work."),
            DocPage("gpu-hosts", "gpu-hosts.md", "Hosts with GPUs", "What is needed, and what is done with them."),
            DocPage("host-keys", "host-keys.md", "The node's key", "Where it can be kept, and what each way protects against."),
            DocPage("sandbox", "sandbox.md", "The sandbox", "What a container can't do, and what that doesn't protect against."),
        ),
    ),
    Section(
        "Portals",
        (
            DocPage(
                "operations",
                "operations.md",
                "Operating a portal",
                "Installing, settings, sizing, health, what is kept, backup, when something is wrong.",
            ),
            DocPage("moderation", "moderation.md", "Moderating", "What moderators can do, what follows, and what nobody can."),
        ),
    ),
    Section(
        "Trust",
        (
            DocPage(
                "threat-model",
                "threat-model.md",
                "Threat model",
                "Who may try what, what stops them, what is only noticed, and what nothing prevents.",
            ),
            DocPage("auditing", "auditing.md", "Auditing the ledger", "What is checked, what is found, and what can't be seen."),
        ),
    ),
    Section(
        "Reference",
        (
            DocPage("glossary", "glossary.md", "Glossary", "One word for one thing, here and everywhere."),
            DocPage(
                "scripting",
                "API.md",
                "Scripting a portal",
                "Tokens, submitting, uploads, problems, webhooks; from files to a bundle by curl.",
            ),
            DocPage("protocol", "PROTOCOL.md", "The protocol", "Everything on the wire, byte by byte, with golden vectors."),
            DocPage(
                "development", "development.md", "Developing NEXAPod", "Setting up, where things live, how a change is made and tested."
            ),
        ),
    ),
)
PAGES: Final = {page.slug: page for section in SECTIONS for page in section.pages}
_BY_FILE: Final = {page.file: page for page in PAGES.values()}
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False}).enable("table")


@require_GET
def docs_index(request: HttpRequest) -> HttpResponse:
    """Every page with a sentence."""
    return render(request, "docs/index.html", {"sections": SECTIONS})


@require_GET
def docs_page(request: HttpRequest, slug: str) -> HttpResponse:
    """One page of the table."""
    page = PAGES.get(slug)
    if page is None:
        raise Http404("There is no page of this name in the documentation.")
    section = next(section for section in SECTIONS if page in section.pages)
    return render(request, "docs/page.html", {"page": page, "section": section, "rendered": page_rendered(page), "sections": SECTIONS})


@cache
def page_rendered(page: DocPage) -> Rendered:
    """The page as HTML. Raises OSError where the file is missing: it belongs to the software, like a template."""
    return markdown_rendered((settings.BASE_DIR / "docs" / page.file).read_text(encoding="utf-8"), file=page.file)


def markdown_rendered(text: str, *, file: str) -> Rendered:
    """Markdown as HTML; `file`, below `docs/`, is what its links are relative to."""
    tokens = _comments_dropped(_MARKDOWN.parse(text))
    headings = _anchors_set(tokens)
    for token in tokens:
        token.children = _links_led(token.children, file) if token.children else token.children
        if token.type in ("fence", "code_block"):
            token.attrSet("tabindex", "0")  # wide lines scroll, by keyboard too
    _cells_labelled(tokens)
    html = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    html = html.replace("<table>", '<div class="table-wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    title, end, rest = html.partition("</h1>")
    if not end:
        title, rest = "", html
    return Rendered(title + end, rest, tuple((anchor, words) for level, anchor, words in headings if level == 2))


def _comments_dropped(tokens: Sequence[Token]) -> list[Token]:
    """Without the paragraphs that are a comment and nothing else: what scripts find their place by."""
    kept: list[Token] = []
    dropped = False
    for token in tokens:
        if token.type == "inline" and _COMMENT.fullmatch(token.content):
            kept.pop()
            dropped = True
        elif dropped:
            dropped = False
        else:
            kept.append(token)
    return kept


def anchor_of(words: str) -> str:
    """A heading's anchor as code hosts make it: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-")


def _anchors_set(tokens: Sequence[Token]) -> list[tuple[int, str, str]]:
    found: list[tuple[int, str, str]] = []
    seen: Counter[str] = Counter()
    for heading, inline in pairwise(tokens):
        if heading.type != "heading_open":
            continue
        words = "".join(child.content for child in inline.children or [])
        anchor = anchor_of(words)
        unique = f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor
        seen[anchor] += 1
        heading.attrSet("id", unique)
        found.append((int(heading.tag[1:]), unique, words))
    return found


def _cells_labelled(tokens: Sequence[Token]) -> None:
    """Each cell but a row's first carries its column's heading, for screens where a row's cells stand below each other."""
    headings: list[str] = []
    column = 0
    for token, inline in pairwise(tokens):
        match token.type:
            case "table_open":
                headings = []
            case "tr_open":
                column = 0
            case "th_open":
                headings.append("".join(child.content for child in inline.children or []))
            case "td_open":
                if column:
                    token.attrSet("data-label", headings[column])
                column += 1


def _links_led(children: Sequence[Token], file: str) -> list[Token]:
    """Rule 2. Links don't nest in Markdown, so the next close belongs to the open before it."""
    kept: list[Token] = []
    dropped = False
    for token in children:
        if token.type == "link_open":
            target = link_target(str(token.attrGet("href") or ""), file=file)
            dropped = target is None
            if target is not None:
                token.attrSet("href", target)
        if not (dropped and token.type in ("link_open", "link_close")):
            kept.append(token)
        if token.type == "link_close":
            dropped = False
    return kept


def link_target(href: str, *, file: str) -> str | None:
    """Where a link in `file` leads within the portal; None: nowhere that it serves. Rule 2."""
    if re.match(r"(https?|mailto):", href) or href.startswith("#"):
        return href
    path, _, fragment = href.partition("#")
    page = _BY_FILE.get(posixpath.normpath(posixpath.join(posixpath.dirname(file), path)))
    if page is None:
        return None
    return reverse("docs-page", args=[page.slug]) + (f"#{fragment}" if fragment else "")


def prose_rendered(text: str) -> str:
    """A few sentences of ours in Markdown, as in the API's descriptions."""
    html: Any = _MARKDOWN.render(text)
    return str(html)
