"""The container images of the demo and the tests: found, pulled or built, and named by their ID.

Rules of this file:

1. What is there is used: a second call with nothing changed takes no network and no build.
2. A registry that can't be reached costs `PULL_SILENCE_SECONDS`, never a hang.
3. Whatever ends a call (an error, Ctrl-C, `StackInterrupted`), its child processes, mounts and temporary folders end with it.
   Callers turn SIGTERM into an exception (`devstack.processes.Interrupts`); SIGKILL of the caller ends the children too.
4. An image whose name a build took is removed, if it was ours and nothing uses it (devstack/replaced_images.py).
5. No setting of this machine (package index, proxy, CA) stays in an image: they reach a build as secrets and predefined arguments.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import docker
import requests
from docker.errors import APIError, BuildError, DockerException, ImageNotFound
from docker.utils.build import exclude_paths

from devstack.commands import CommandFailedError, child_process, command_run
from devstack.replaced_images import DIGEST_LABEL, replaced_removed

Report = Callable[[str], None]

PULLED_BASE: Final = "python:3.12-slim"
BUILT_BASE: Final = "nexapod/base:bookworm"

PULL_SILENCE_SECONDS: Final = 10
PACKAGES_SECONDS: Final = 300
DEBOOTSTRAP_SECONDS: Final = 900
BUILD_SECONDS: Final = 1800

_SYSTEM_CA_BUNDLES: Final = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))
_PROXY_ARGUMENTS: Final = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class ImageUnavailableError(RuntimeError):
    """An image could neither be found nor made here. The message says why in its first line and what to do in its second."""


@dataclass(frozen=True)
class _Recipe:
    context: Path
    tag: str
    base: str
    digest_hex: str


def base_image_ensure(
    client: docker.DockerClient, *, report: Report, pulled: str = PULLED_BASE, built: str = BUILT_BASE, temporary: Path | None = None
) -> str:
    """A reference to an image with `sh`, Python 3.11 or later and pip: `pulled` if a registry answers, else `built`, of Debian packages.

    `temporary` is the folder in which `built` takes shape (some 400 MB for a minute); None: the system's. Raises `ImageUnavailableError`.
    """
    for reference in (pulled, built):
        if _image_id(client, reference):
            return reference
    reason = _pull(client, pulled, report)
    if reason is None:
        return pulled
    report(f"base image: {pulled} can't be pulled ({reason}); building {built} from Debian packages, about a minute")
    _debian_import(client, built, report, pulled, temporary)
    return built


def workload_image_ensure(
    client: docker.DockerClient, *, context: Path, tag: str, base: str, report: Report, engine_url: str | None = None
) -> str:
    """The ID (`sha256:` and 64 hex digits) of the image that `context`'s Dockerfile gives on top of `base`, also tagged `tag`.

    The image carries a digest over base and context as a label: while it fits, nothing is built. `engine_url` is where `client` is
    connected to, for the docker CLI; None: what the CLI finds by itself. Raises `ImageUnavailableError`.
    """
    base_id = _image_id(client, base)
    if base_id is None:
        raise ImageUnavailableError(
            f"Expected the base image {base}, found no such image here.\nRun base_image_ensure first, or docker pull {base}."
        )
    digest_hex = context_digest(context, base_id)
    built = _image_id(client, tag, digest_hex)
    if built:
        return built
    report(f"workload image: building {tag} on {base}")
    recipe = _Recipe(context, tag, base, digest_hex)
    cli = buildkit_cli()
    try:
        with replaced_removed(client, tag):
            if cli:
                _build_with_buildkit(cli, recipe, engine_url, report)
            else:
                report("workload image: no docker CLI with BuildKit found; building without secrets")
                _build_classic(client, recipe)
    except (CommandFailedError, BuildError, APIError) as error:
        raise ImageUnavailableError(
            f"Building {tag} from {context} failed: {error}\n"
            "Check that a build can reach a package index (PIP_INDEX_URL, PIP_CERT), and that a docker CLI with BuildKit is installed."
        ) from error
    built = _image_id(client, tag, digest_hex)
    if built is None:
        raise ImageUnavailableError(
            f"The docker CLI built {tag}, but the engine of this process does not have it.\n"
            "Make both speak to the same engine: set DOCKER_HOST, or unset the CLI's context."
        )
    return built


def tiny_image_ensure(client: docker.DockerClient, *, report: Report = lambda line: None) -> str:
    """The ID of the smallest image that the tests need, one with `sh` and `python3`: the base itself. Raises `ImageUnavailableError`."""
    return str(client.images.get(base_image_ensure(client, report=report)).id)


def context_digest(context: Path, base_id: str) -> str:
    """SHA-256, hex, over the base's ID and every file of the build context (names, executable bits, bytes), as .dockerignore leaves it."""
    ignored = context / ".dockerignore"
    patterns = [line.strip() for line in ignored.read_text().splitlines()] if ignored.exists() else []
    digest = hashlib.sha256(base_id.encode())
    for name in sorted(exclude_paths(str(context), [each for each in patterns if each and not each.startswith("#")])):
        path = context / name
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"\n{name}\0{os.access(path, os.X_OK):d}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def buildkit_cli() -> str | None:
    """The first docker CLI on the PATH that builds with BuildKit, or None. A CLI may be a bare client without buildx."""
    for folder in dict.fromkeys(os.environ.get("PATH", os.defpath).split(os.pathsep)):
        candidate = Path(folder) / "docker"
        if not folder or not os.access(candidate, os.X_OK):
            continue
        with contextlib.suppress(CommandFailedError):
            options = command_run([str(candidate), "build", "--help"], limit_seconds=30, environment=_buildkit(None))
            if any("--secret" in line for line in options):
                return str(candidate)
    return None


def _image_id(client: docker.DockerClient, reference: str, digest_hex: str | None = None) -> str | None:
    try:
        image = client.images.get(reference)
    except ImageNotFound:
        return None
    if digest_hex is not None and image.labels.get(DIGEST_LABEL) != digest_hex:
        return None
    return image.id


def _pull(client: docker.DockerClient, reference: str, report: Report) -> str | None:
    """Pull, giving None, or the reason why not."""
    report(f"base image: pulling {reference}")
    # The SDK pulls without a time limit, so the registry is asked for the manifest first, which has the client's. Nobody else uses the
    # client during set-up. An engine that can't ask (Podman) says so at once, and then the pull decides.
    usual, client.api.timeout = client.api.timeout, PULL_SILENCE_SECONDS
    try:
        client.api.inspect_distribution(reference)  # type: ignore[no-untyped-call]  # missing in types-docker
    except APIError:
        pass
    except requests.RequestException:
        return f"no answer within {PULL_SILENCE_SECONDS} s"
    finally:
        client.api.timeout = usual
    try:
        client.images.pull(reference)
    except (DockerException, requests.RequestException) as error:
        return str(getattr(error, "explanation", None) or error)
    return None


def _debian_import(client: docker.DockerClient, reference: str, report: Report, pulled: str, temporary: Path | None) -> None:
    advice = f"Let the engine reach a registry, load {pulled} with `docker load`, or run this as root on Debian or Ubuntu."
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ImageUnavailableError(f"No registry gives {pulled}, and this is not root on a Debian-like system.\n{advice}")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    folder = Path(tempfile.mkdtemp(prefix="nexapod-base-", dir=temporary))
    try:
        if not shutil.which("debootstrap"):
            report("base image: installing debootstrap")
            command_run(["apt-get", "update"], limit_seconds=PACKAGES_SECONDS, environment=quiet)
            install = ["apt-get", "install", "--yes", "--no-install-recommends", "debootstrap"]
            command_run(install, limit_seconds=PACKAGES_SECONDS, environment=quiet)
        root = folder / "root"
        packages = "--include=python3,python3-pip,ca-certificates"
        bootstrap = [*_own_namespaces(), "debootstrap", "--variant=minbase", packages, "bookworm", str(root)]
        command_run(bootstrap, limit_seconds=DEBOOTSTRAP_SECONDS, environment=quiet, on_line=_stages_only(report))
        for leftovers in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / leftovers)
            (root / leftovers / "partial").mkdir(parents=True)
        report(f"base image: importing {reference}")
        _folder_import(client, root, reference)
    except (CommandFailedError, APIError, OSError) as error:
        raise ImageUnavailableError(f"No registry gives {pulled}, and making {reference} failed: {error}\n{advice}") from error
    finally:
        _unmount_beneath(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _own_namespaces() -> list[str]:
    """A prefix that gives a command its own mounts and processes, all gone with it; empty where the kernel or a container forbids it."""
    prefix = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    try:
        command_run([*prefix, "true"], limit_seconds=10)
    except CommandFailedError:
        return []
    return prefix


def _stages_only(report: Report) -> Report:
    """Of debootstrap's hundreds of lines, the first of each stage."""
    stages = {"Retrieving", "Extracting", "Unpacking", "Configuring"}

    def on_line(line: str) -> None:
        stage = line.removeprefix("I: ").partition(" ")[0]
        if stage in stages:
            stages.remove(stage)
            report(f"base image: {stage.lower()} packages")

    return on_line


def _folder_import(client: docker.DockerClient, root: Path, reference: str) -> None:
    repository, _, tag = reference.rpartition(":")
    with child_process(["tar", "--numeric-owner", "-C", str(root), "-c", "."], None, subprocess.DEVNULL) as archive:
        pipe = cast("IO[bytes]", archive.stdout)
        blocks = iter(lambda: pipe.read(1 << 20), b"")
        client.api.import_image_from_stream(blocks, repository=repository, tag=tag, changes=['CMD ["/bin/sh"]'])
        if archive.wait():
            client.api.remove_image(reference, force=True)
            raise CommandFailedError(f"tar ended with status {archive.returncode} while reading {root}.")


def image_build(
    cli: str, *, context: Path, tag: str, base: str, options: Sequence[str] = (), engine_url: str | None = None, on_line: Report
) -> None:
    """Builds with `cli`, a docker CLI that has BuildKit; `on_line` hears all that it says. Raises CommandFailedError."""
    with tempfile.TemporaryDirectory(prefix="nexapod-build-") as folder:
        command = [cli, "build", "--progress", "plain", "--tag", tag, "--build-arg", f"BASE={base}", *options]
        for name in _PROXY_ARGUMENTS:  # predefined in every Dockerfile, and kept out of the image's history
            if os.environ.get(name):
                command += ["--build-arg", name]
        bundle = ca_bundle()
        if bundle:
            command += ["--secret", f"id=ca,src={bundle}"]
        index = pip_configuration()
        if index:
            secret = Path(folder) / "pip.conf"
            secret.touch(mode=0o600)
            secret.write_text(index)
            command += ["--secret", f"id=pip,src={secret}"]
        command_run([*command, str(context)], limit_seconds=BUILD_SECONDS, environment=_buildkit(engine_url), on_line=on_line)


def _build_with_buildkit(cli: str, recipe: _Recipe, engine_url: str | None, report: Report) -> None:
    def on_line(line: str) -> None:
        step = re.match(r"#\d+ \[(\d+/\d+)\] (.{1,60})", line)
        if step:
            report(f"workload image: step {step[1]} {step[2]}")

    label = ["--label", f"{DIGEST_LABEL}={recipe.digest_hex}"]
    image_build(cli, context=recipe.context, tag=recipe.tag, base=recipe.base, options=label, engine_url=engine_url, on_line=on_line)


def _build_classic(client: docker.DockerClient, recipe: _Recipe) -> None:
    """Without BuildKit an engine knows no `RUN --mount`: leave the mounts out. Fits Dockerfiles to which each secret is optional."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in sorted(each for each in recipe.context.rglob("*") if each.is_file()):
            content = path.read_bytes()
            if path.name == "Dockerfile":
                content = re.sub(rb"--mount=\S+\s*", b"", content)
            entry = tarfile.TarInfo(path.relative_to(recipe.context).as_posix())
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    arguments = {"BASE": recipe.base} | {name: os.environ[name] for name in _PROXY_ARGUMENTS if os.environ.get(name)}
    labels = {DIGEST_LABEL: recipe.digest_hex}
    client.images.build(fileobj=archive, custom_context=True, tag=recipe.tag, buildargs=arguments, labels=labels, rm=True, forcerm=True)


def ca_bundle() -> Path | None:
    """The certificates that this machine trusts, so that a build behind a proxy that re-signs TLS trusts them too; None: none found."""
    named = (Path(os.environ[name]) for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if os.environ.get(name))
    return next((path for path in (*named, *_SYSTEM_CA_BUNDLES) if path.is_file()), None)


def pip_configuration() -> str:
    """A pip.conf with the package index that the environment names; empty where it names none. May hold a password."""
    names = {"PIP_INDEX_URL": "index-url", "PIP_EXTRA_INDEX_URL": "extra-index-url", "PIP_TRUSTED_HOST": "trusted-host"}
    settings = [f"{setting} = {os.environ[name]}" for name, setting in names.items() if os.environ.get(name)]
    return "\n".join(["[global]", *settings, ""]) if settings else ""


def _buildkit(engine_url: str | None) -> dict[str, str]:
    engine = {"DOCKER_HOST": engine_url} if engine_url else {}
    return {**os.environ, "DOCKER_BUILDKIT": "1", **engine}


def _unmount_beneath(folder: Path) -> None:
    """Deepest first. Removing a folder under which /proc or /sys is still mounted would reach into the running system."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in sorted((each for each in mounts if each.startswith(f"{folder}/")), key=len, reverse=True):
        command_run(["umount", "--lazy", place], limit_seconds=10)
