"""Image references: their grammar, which of them may run, and what exactly an approved one is.

1. The grammar is that of container registries (github.com/distribution/reference): `[registry/]path[:tag][@sha256:…]`.
2. An image runs only if the operator approved its name, or its name with this tag (ImageApproval).
3. What runs is pinned to content: by the approval, or by a digest in the reference. A digest beside a pin must be the same.
4. A tag without either is refused: what it names can change between two replicas of a job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from jobs.errors import ImageMalformedError, ImageNotApprovedError, ImageUnresolvableError
from jobs.models import ImageApproval
from workers.protocol.messages.order import ImageReference

TAG_DEFAULT: Final = "latest"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_PART = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})+(?::[0-9]{{1,5}})?|{_HOST_PART}:[0-9]{{1,5}}|localhost)"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?"
)
_HUB_PREFIXES = ("docker.io/library/", "index.docker.io/library/", "docker.io/", "index.docker.io/")


@dataclass(frozen=True)
class Reference:
    """A parsed image reference; `name` is short (`python`, not `docker.io/library/python`)."""

    name: str
    tag: str | None
    digest: str | None

    @property
    def tagged(self) -> str:
        return f"{self.name}:{self.tag or TAG_DEFAULT}"


def reference_parse(text: str) -> Reference:
    """The parts of an image reference. Raises ImageMalformedError."""
    match = _REFERENCE.fullmatch(text) if len(text) <= 400 else None
    if match is None:
        raise ImageMalformedError(
            f"Expected an image reference such as registry.example.org/group/name:1.0 or …/name@sha256:<64 hex digits>, "
            f"in lower case; found {text[:120]!r}. Correct docker_image."
        )
    name = match["name"]
    for prefix in _HUB_PREFIXES:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    return Reference(name, match["tag"], match["digest"])


def image_resolve(text: str) -> ImageReference:
    """The pinned image that `text` names here and now.

    Raises ImageMalformedError, ImageNotApprovedError, ImageUnresolvableError.
    """
    wanted = reference_parse(text)
    approval = _approval_of(wanted)
    if approval is None:
        raise ImageNotApprovedError(
            f"Expected an image that this portal's operator approved; {wanted.name!r} is not one. Ask for it, or use an approved image."
        )
    pinned = bool(approval.pull or approval.image_id)
    if pinned and approval.name == wanted.name and wanted.tag not in (None, TAG_DEFAULT):
        # The pin was made for the bare name: what another tag names was never looked at.
        pinned = False
    if not pinned:
        if wanted.digest is None:
            raise ImageUnresolvableError(
                f"{text!r} is approved, but nobody pinned what the tag {wanted.tag or TAG_DEFAULT!r} names. "
                f"Give the digest ({wanted.name}@sha256:…), or ask the operator to pin the tag."
            )
        return ImageReference(name=wanted.tagged, pull=f"{wanted.name}@{wanted.digest}")
    if wanted.digest is not None and wanted.digest not in (approval.image_id, approval.pull.partition("@")[2]):
        raise ImageNotApprovedError(
            f"{wanted.name!r} is approved as {approval.pull or approval.image_id}; found {wanted.digest}. Use the approved content."
        )
    return ImageReference(name=wanted.tagged, pull=approval.pull or None, image_id=approval.image_id or None)


def _approval_of(wanted: Reference) -> ImageApproval | None:
    """The approval of this tag before that of the whole name."""
    rows = {row.name: row for row in ImageApproval.objects.filter(name__in=[wanted.name, wanted.tagged])}
    return rows.get(wanted.tagged) or rows.get(wanted.name)


def approval_name_parse(text: str) -> str:
    """What an approval is stored under: `name` or `name:tag`. Raises ImageMalformedError, also for a digest."""
    wanted = reference_parse(text)
    if wanted.digest is not None:
        raise ImageMalformedError(f"An approval names an image or a tag and pins it with a digest beside; found {text!r}.")
    return wanted.tagged if wanted.tag else wanted.name
