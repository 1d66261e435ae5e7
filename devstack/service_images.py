"""Images of infra/, built from this checkout as tests need them; compose.yaml builds them for operators."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import docker

from devstack.images import ImageUnavailableError, base_image_ensure, buildkit_cli, image_build
from devstack.replaced_images import replaced_removed

_CHECKOUT: Final = Path(__file__).parents[1]


def service_image_build(client: docker.DockerClient, *, service: str, tag: str) -> str:
    """Builds infra/`service` under the name `tag`, which it returns. Raises ImageUnavailableError and CommandFailedError."""
    cli = buildkit_cli()
    if cli is None:
        raise ImageUnavailableError("Expected a docker CLI that builds with BuildKit, found none.\nDebian's docker.io has one.")
    base = base_image_ensure(client, report=print)
    # The machine's own network: a package index or proxy may be on it alone.
    options = ["--file", str(_CHECKOUT / "infra" / service / "Dockerfile"), "--network", "host"]
    with replaced_removed(client, tag):
        image_build(cli, context=_CHECKOUT, tag=tag, base=base, options=options, on_line=lambda line: None)
    return tag
