"""Image references, approvals and pins."""

from __future__ import annotations

from functools import partial
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given
from hypothesis import strategies as st

from jobs.admin import ApprovalForm
from jobs.errors import ImageMalformedError, ImageNotApprovedError, ImageUnresolvableError
from jobs.models import ImageApproval
from jobs.services import approvals
from jobs.submission.images import image_resolve, reference_parse

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "name", "tag", "digest"),
    [
        ("python", "python", None, None),
        ("python:3.12", "python", "3.12", None),
        ("docker.io/library/python:3.12", "python", "3.12", None),
        ("docker.io/group/name", "group/name", None, None),
        ("registry.example.org:5000/a/b_c--d:1.0-x", "registry.example.org:5000/a/b_c--d", "1.0-x", None),
        (f"localhost/x@{A}", "localhost/x", None, A),
        (f"example/science:1.0@{A}", "example/science", "1.0", A),
    ],
)
def test_reference_is_read(text: str, name: str, tag: str | None, digest: str | None) -> None:
    reference = reference_parse(text)
    assert (reference.name, reference.tag, reference.digest) == (name, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPPER",
        "a b",
        "a:",
        "a@sha256:00",
        "a@md5:" + "0" * 32,
        "/a",
        "a/",
        "a//b",
        "https://a/b",
        "a:1\n",
        "-a",
        "a:" + "t" * 129,
        "a" * 401,
        "é",
    ],
)
def test_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(ImageMalformedError) as caught:
        reference_parse(text)
    assert caught.value.code == "image_malformed"


@given(st.text(max_size=60))
def test_arbitrary_text_raises_nothing_else(text: str) -> None:
    try:
        reference = reference_parse(text)
    except ImageMalformedError:
        return
    assert reference.name in text


image_approve = partial(approvals.image_approve, by=None, reason="Looked at.")


@pytest.mark.django_db
class TestResolution:
    def test_tag_becomes_what_its_approval_pins(self) -> None:
        image_approve(name="docker.io/example/science:1.0", pull=f"registry.example.org/science@{A}", image_id=B)
        image = image_resolve("example/science:1.0")
        assert (image.name, image.pull, image.image_id) == ("example/science:1.0", f"registry.example.org/science@{A}", B)

    def test_pin_of_the_tag_counts_before_that_of_the_name(self) -> None:
        image_approve(name="example/science", image_id=A)
        image_approve(name="example/science:1.0", image_id=B)
        assert image_resolve("example/science:1.0").image_id == B
        assert image_resolve("example/science").image_id == A
        assert image_resolve("example/science:latest").image_id == A

    def test_pin_of_the_bare_name_is_not_that_of_another_tag(self) -> None:
        image_approve(name="example/science", image_id=A)
        with pytest.raises(ImageUnresolvableError) as caught:
            image_resolve("example/science:2.0")
        assert caught.value.code == "image_unresolvable"

    def test_digest_of_an_approved_name_is_used_as_it_is(self) -> None:
        image_approve(name="example/science")
        assert image_resolve(f"example/science@{A}").pull == f"example/science@{A}"

    def test_tag_that_nobody_pinned_is_unresolvable(self) -> None:
        image_approve(name="example/science")
        with pytest.raises(ImageUnresolvableError, match="Give the digest"):
            image_resolve("example/science:1.0")

    def test_digest_other_than_the_pinned_one_is_not_approved(self) -> None:
        image_approve(name="example/science:1.0", pull=f"example/science@{A}")
        assert image_resolve(f"example/science:1.0@{A}").pull == f"example/science@{A}"
        with pytest.raises(ImageNotApprovedError, match="Use the approved content"):
            image_resolve(f"example/science:1.0@{B}")

    def test_unknown_name_is_not_approved(self) -> None:
        image_approve(name="example/science:1.0", image_id=A)
        for text in ("example/other:1.0", "example/science:2.0", "example/science", f"registry.example.org/example/science:1.0@{A}"):
            with pytest.raises(ImageNotApprovedError) as caught:
                image_resolve(text)
            assert (caught.value.code, caught.value.status) == ("image_not_approved", 403)


@pytest.mark.django_db
def test_command_approves_and_replaces_the_pin() -> None:
    call_command("image_approve", "example/science:1.0", "--image-id", A, stdout=StringIO())
    out = StringIO()
    call_command("image_approve", "example/science:1.0", "--image-id", B, stdout=out)
    assert ImageApproval.objects.get().image_id == B
    assert out.getvalue() == f"example/science:1.0: {B}\n"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [["UPPER"], [f"a@{A}"], ["a", "--pull", "a:1"], ["a", "--image-id", "a"]],
    ids=["name", "name by digest", "pull by tag", "image id"],
)
def test_command_refuses_what_is_malformed(arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="found"):
        call_command("image_approve", *arguments)
    assert not ImageApproval.objects.exists()


@pytest.mark.django_db
def test_admin_form_checks_like_the_command() -> None:
    assert set(ApprovalForm({"name": "UPPER", "pull": "a:1", "image_id": "x", "reason": "y"}).errors) == {"name", "pull", "image_id"}
    form = ApprovalForm({"name": "docker.io/example/science:1.0", "pull": "", "image_id": A, "reason": "y"})
    assert form.is_valid()
    assert form.cleaned_data["name"] == "example/science:1.0"
