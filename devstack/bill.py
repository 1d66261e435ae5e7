"""`make bill`: what the images of infra/ are made of, a CycloneDX document each, read from the images themselves.

Debian packages by dpkg, Python packages by what was installed with them. The same image gives the same document. Not in it: the
interpreter of an image of Python's own (its base names it), and the browser's code, which is in the portal's repository.
"""

from __future__ import annotations

import argparse
import json
import sys
import uuid
from datetime import datetime
from pathlib import Path
from typing import Final

import docker
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from docker.errors import ImageNotFound
from packageurl import PackageURL

from devstack.engine import EngineUnavailableError, engine_ensure

IMAGES: Final = tuple(f"nexapod/{name}" for name in ("portal", "host", "proxy", "database", "redis", "acme"))
_DEBIAN: Final = ["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}\n"]
# Debian's own Python packages are dpkg's to tell. No Python in an image: nothing to tell.
_PYTHON: Final = """
command -v python3 > /dev/null || { echo '[]'; exit 0; }
exec python3 -c '
import importlib.metadata, json
print(json.dumps([
    [one.name, one.version, one.metadata["License-Expression"]]
    for one in importlib.metadata.distributions()
    if not str(one.locate_file("")).startswith("/usr/lib/python3")
]))'
"""


def image_bill(client: docker.DockerClient, reference: str) -> str:
    """The bill of an image that is here, as CycloneDX 1.6 JSON. Raises ImageNotFound."""
    image = client.images.get(reference)
    image_id = str(image.id)
    subject = Component(type=ComponentType.CONTAINER, name=reference, version=image_id, bom_ref="image")
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, image_id), components=[*_debian(client, image_id), *_python(client, image_id)])
    bom.metadata.component = subject
    bom.metadata.timestamp = datetime.fromisoformat(image.attrs["Created"][:19] + "+00:00")
    bom.register_dependency(subject, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def _debian(client: docker.DockerClient, image_id: str) -> list[Component]:
    rows = [line.split("\t") for line in _said(client, image_id, _DEBIAN).splitlines()]
    return [_component(PackageURL("deb", "debian", name, version, {"arch": architecture}), None) for name, version, architecture in rows]


def _python(client: docker.DockerClient, image_id: str) -> list[Component]:
    rows = json.loads(_said(client, image_id, ["sh", "-c", _PYTHON]))
    return [_component(PackageURL("pypi", None, name, version), licence) for name, version, licence in rows]


def _component(package: PackageURL, licence: str | None) -> Component:
    licences = [LicenseFactory().make_from_string(licence)] if licence else []
    return Component(name=package.name, version=package.version, purl=package, bom_ref=str(package), licenses=licences)


def _said(client: docker.DockerClient, image_id: str, command: list[str]) -> str:
    output: bytes = client.containers.run(
        image_id, command[1:], entrypoint=command[:1], remove=True, network_mode="none", read_only=True, cap_drop=["ALL"]
    )
    return output.decode()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m devstack.bill", description="Write what images are made of, as CycloneDX documents.")
    parser.add_argument("images", nargs="*", help="by name; else those of ours that are here")
    parser.add_argument("--out", type=Path, default=Path("var/bills"))
    arguments = parser.parse_args()
    try:
        client = engine_ensure(report=print).client()
    except EngineUnavailableError as error:
        print(error, file=sys.stderr)
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    missing = 0
    for reference in arguments.images or IMAGES:
        try:
            bill = image_bill(client, reference)
        except ImageNotFound:
            print(f"{reference}: not here. `docker compose build` makes it, where COMPOSE_PROFILES has its service.", file=sys.stderr)
            missing += 1
            continue
        path = arguments.out / f"{reference.replace('/', '-').replace(':', '-')}.cdx.json"
        path.write_text(bill)
        print(f"{path}: {len(json.loads(bill)['components'])} components")
    client.close()
    return 1 if missing == len(IMAGES) or (missing and arguments.images) else 0


if __name__ == "__main__":
    sys.exit(main())
