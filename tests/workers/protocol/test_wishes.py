"""Wishes: what a pattern means, and what a job must be."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from workers.protocol.messages.exchange import PATTERNS_MAX, Wishes
from workers.protocol.wishes import pattern_matches, wish_unmet


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "registry.example.org/group/name:1.0", True),
        ("registry.example.org/*", "registry.example.org/group/name:1.0", True),
        ("registry.example.org/*", "registry.example.org.evil.net/name:1.0", False),
        ("registry.example.org/*", "evil.net/registry.example.org/name:1.0", False),
        ("python:3.12", "python:3.12", True),
        ("python:3.12", "python:3x12", False),
        ("python", "python:3.12", False),
        ("*/gromacs:*", "example.org/md/gromacs:2024", True),
        ("a_b*", "axb", False),
        ("A*", "a", False),
    ],
)
def test_a_pattern_means_itself_but_for_the_star(pattern: str, text: str, matches: bool) -> None:
    assert Wishes(images=(pattern,)).images == (pattern,)
    assert pattern_matches(pattern, text) is matches


@pytest.mark.parametrize("pattern", ["", "a?", "[ab]", "a%", "a\\", "a b", "ä", "x" * 256, "a\n"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        Wishes(images=(pattern,))
    with pytest.raises(ValidationError):
        Wishes(job_types=(pattern,))


def test_lists_and_rates_have_bounds() -> None:
    with pytest.raises(ValidationError):
        Wishes(images=("a",) * (PATTERNS_MAX + 1))
    with pytest.raises(ValidationError):
        Wishes(credit_rate_min=1000.1)
    with pytest.raises(ValidationError):
        Wishes(credit_rate_min=float("nan"))


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        (Wishes(), None),
        (Wishes(images=("b/*", "a/*"), job_types=("x.*",), credit_rate_min=0.5), None),
        (Wishes(images=("b/*",)), "does not allow the image 'a/i:1'"),
        (Wishes(images=()), "does not allow the image"),
        (Wishes(job_types=("y.*",)), "does not allow jobs of the type 'x.y'"),
        (Wishes(job_types=()), "does not allow jobs"),
        (Wishes(credit_rate_min=0.500001), "offers 0.5 credits for 1 TFLOP/s-hour; the contributor asks for 0.500001"),
    ],
)
def test_a_job_meets_every_wish_or_is_told_which_one_not(wishes: Wishes, words: str | None) -> None:
    unmet = wish_unmet(wishes, image="a/i:1", job_type="x.y", credit_rate_micro=500_000)
    assert (unmet is None) if words is None else (words in str(unmet))


def test_many_stars_are_matched_in_no_time() -> None:
    assert not pattern_matches("*a" * 120 + "b", "a" * 255)
