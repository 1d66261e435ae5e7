"""What only the submission page shows."""

from __future__ import annotations

from collections.abc import Mapping

from django import template
from django.template.defaultfilters import filesizeformat
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from jobs.descriptor.numbers import number_text
from jobs.descriptor.sheet import Node
from jobs.models import Upload

register = template.Library()


@register.simple_tag
def flops(value: float) -> str:
    """As the descriptor writes it: `1.8e12`."""
    return number_text(value)


@register.simple_tag
def coded(text: str) -> SafeString:
    """Words of the schema, with what stands between backticks as code."""
    parts = text.split("`")
    return format_html_join("", "{}", ((format_html("<code>{}</code>", part) if place % 2 else part,) for place, part in enumerate(parts)))


@register.simple_tag
def upload_state(row: Node, uploads: Mapping[str, Upload]) -> SafeString:
    """Of a row of inputs: whether its bytes are there."""
    texts = {child.name.rpartition("/")[2]: child.text for child in row.children}
    upload = uploads.get(texts.get("digest", ""))
    if upload is None:
        words = ("not uploaded by you yet", "choose the file above")
        return format_html(
            '<p class="upload-state"><span class="state state-queued">{}</span> <span class="muted small">{}</span></p>', *words
        )
    if upload.committed_at is None:
        how_far = f"{filesizeformat(upload.offset_bytes)} of {filesizeformat(upload.size_bytes)} uploaded"
        return format_html('<p class="upload-state"><span class="state state-running">{}</span></p>', how_far)
    return format_html(
        '<p class="upload-state"><span class="state state-passed">uploaded, {}</span></p>', filesizeformat(upload.size_bytes)
    )
