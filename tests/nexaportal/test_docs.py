"""The documentation as pages: every file is there, every link leads somewhere, Markdown makes no HTML of its own."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.test import Client

from nexaportal.docs import PAGES, anchor_of, link_target, markdown_rendered, page_rendered

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("slug", sorted(PAGES))
def test_every_page_is_shown_and_its_links_lead_to_what_is_there(slug: str) -> None:
    text = Client().get(f"/docs/{slug}/").content.decode()
    assert "<h1" in text
    for href in re.findall(r'href="([^"]*)"', page_rendered(PAGES[slug]).html):
        path, _, fragment = href.partition("#")
        assert not path or path.startswith(("https://", "http://", "/docs/")), href
        target = text if not path else Client().get(path).content.decode() if path.startswith("/") else ""
        assert not fragment or path.startswith("http") or f'id="{fragment}"' in target, href


def test_every_document_of_the_repository_is_in_the_table() -> None:
    folder = settings.BASE_DIR / "docs"
    found = {str(file.relative_to(folder)) for file in folder.rglob("*.md") if "adr" not in file.parts}
    assert found == {page.file for page in PAGES.values()}


def test_index_lists_all_of_them() -> None:
    text = Client().get("/docs/").content.decode()
    for page in PAGES.values():
        assert f'href="/docs/{page.slug}/"' in text
    assert 'href="/docs/api/"' in text


def test_a_page_that_is_not_in_the_table_is_not_there() -> None:
    assert Client().get("/docs/settings/").status_code == 404


def test_html_in_markdown_is_text() -> None:
    page = markdown_rendered("# <img src=x onerror=alert(1)>\n\n<script>x</script> [a](javascript:alert(1))", file="host.md")
    html = page.title_html + page.html
    assert "<script" not in html
    assert "<img" not in html
    assert "href" not in html


@pytest.mark.parametrize(
    ("href", "file", "target"),
    [
        ("glossary.md", "host.md", "/docs/glossary/"),
        ("../PROTOCOL.md#epochs", "quickstart/auditor.md", "/docs/protocol/#epochs"),
        ("#faults", "PROTOCOL.md", "#faults"),
        ("https://example.org/", "host.md", "https://example.org/"),
        ("../workers/runtime/sandbox.py", "sandbox.md", None),
        ("../../etc/passwd", "host.md", None),
        ("//example.org/x", "host.md", None),
    ],
)
def test_links_lead_to_pages_of_the_table_or_nowhere(href: str, file: str, target: str | None) -> None:
    assert link_target(href, file=file) == target


def test_a_comment_of_its_own_is_not_shown() -> None:
    html = markdown_rendered("a\n\n<!-- example: keys.json -->\n\nb\n\n```\n<!-- code -->\n```\n", file="host.md").html
    assert "example" not in html
    assert html.count("<p>") == 2
    assert "code --" in html


def test_the_title_comes_apart_from_what_is_below_it() -> None:
    page = markdown_rendered("# Hosts\n\nText.\n", file="host.md")
    assert page.title_html == '<h1 id="hosts">Hosts</h1>'
    assert "Text." in page.html
    assert "<h1" not in page.html


def test_cells_carry_the_heading_of_their_column() -> None:
    html = markdown_rendered("| code | what to `do` |\n|---|---|\n| x | y |\n", file="host.md").html
    assert "<td>x</td>" in html
    assert '<td data-label="what to do">y</td>' in html


def test_anchors_are_those_of_code_hosts_and_unique() -> None:
    assert anchor_of("The coordinator's next key") == "the-coordinators-next-key"
    html = markdown_rendered("## Same\n\n## Same\n", file="host.md").html
    assert 'id="same"' in html
    assert 'id="same-1"' in html
