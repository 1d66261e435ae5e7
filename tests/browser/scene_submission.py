"""What the submission page needs of the scene: the folding example's image, approved."""

from __future__ import annotations

from tests.factories.jobs import image_approve


def submission_scene_make() -> None:
    image_approve("nexapod/folding:1.0")
