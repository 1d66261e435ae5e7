"""From a descriptor file beside its inputs to a submitted job."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from client.api import PortalApi, Progress
from workers.backoff import Backoff
from workers.portal import PortalUnreachableError
from workers.protocol.canonical import json_parse
from workers.protocol.errors import VerificationError

DESCRIPTOR_LIMIT_BYTES: Final = 512 * 1024
UPLOAD_TRIES: Final = 6
"""How often an upload is taken up again while the portal is away, before the researcher is told."""


class DescriptorFileError(Exception):
    """The descriptor file, or an input that it names, can't be read; the message says where it was looked for."""


def descriptor_load(path: Path) -> dict[str, Any]:
    """The descriptor in a JSON file. What it means is the portal's to check. Raises DescriptorFileError."""
    try:
        with path.open("rb") as file:
            document = json_parse(file.read(DESCRIPTOR_LIMIT_BYTES + 1), limit_bytes=DESCRIPTOR_LIMIT_BYTES)
    except OSError as error:
        raise DescriptorFileError(f"{path} can't be read: {error.strerror}.") from error
    except VerificationError as error:
        raise DescriptorFileError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise DescriptorFileError(f"{path}: expected a JSON object, found {type(document).__name__}.")
    inputs_check(document, str(path))
    return document


def inputs_check(document: dict[str, Any], where: str) -> None:
    """Return if what `document` says of inputs can be looked for. Raises DescriptorFileError."""
    names, inputs = document.get("input_files", []), document.get("inputs", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DescriptorFileError(f"{where}: input_files: expected a list of file names.")
    if not isinstance(inputs, list) or not all(isinstance(each, dict) and isinstance(each.get("path"), str) for each in inputs):
        raise DescriptorFileError(f"{where}: inputs: expected a list of objects with a path.")


def inputs_upload(
    api: PortalApi,
    descriptor: dict[str, Any],
    folder: Path,
    *,
    progress: Callable[[str], Progress] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The descriptor with a digest for each input, after uploading it from `folder`/inputs or `folder`.

    A descriptor whose inputs come from an `input_uri` is returned as it is; a stated digest must be the file's. `progress(name)`
    gives the callback of one file. Nothing is uploaded before every file was found. Raises DescriptorFileError, PortalError.
    """
    if descriptor.get("input_uri"):
        return descriptor
    stated = {each["path"]: each.get("digest") for each in descriptor.get("inputs", [])}
    names = [*stated, *(name for name in dict.fromkeys(descriptor.get("input_files", [])) if name not in stated)]
    inputs = []
    for name, path in list(_inputs_found(names, folder)):
        digest, size_bytes = _uploaded(api, path, progress(name) if progress else None, pause)
        if stated.get(name) not in (None, digest):
            raise DescriptorFileError(f"{path} has the digest {digest}; the descriptor states {stated[name]}. Which one is meant?")
        inputs.append({"path": name, "digest": digest, "size_bytes": size_bytes})
    return {**descriptor, "inputs": inputs} if inputs else descriptor


def _uploaded(api: PortalApi, path: Path, progress: Progress | None, pause: Callable[[float], None]) -> tuple[str, int]:
    """One upload, taken up again where it stopped while the portal is away for a moment."""
    backoff = Backoff(longest_seconds=10.0)
    tries = 0
    while True:
        tries += 1
        try:
            return api.input_upload(path, progress=progress)
        except PortalUnreachableError:
            if tries == UPLOAD_TRIES:
                raise
            pause(backoff.failed())
        except OSError as error:
            raise DescriptorFileError(f"{path} can't be read: {error.strerror or error}") from error


def _inputs_found(names: list[str], folder: Path) -> Iterator[tuple[str, Path]]:
    """Each input's file, which stays below `folder`: a descriptor from somebody else must not choose what is read from this machine."""
    root = folder.resolve()
    for name in names:
        candidates = [folder / "inputs" / name, folder / name]
        try:
            found = next((path for path in candidates if path.is_file()), None)
        except OSError as error:
            raise DescriptorFileError(f"The input {name[:100]!r} can't be looked for: {error.strerror}.") from error
        if found is None:
            raise DescriptorFileError(f"The input {name!r} is neither {candidates[0]} nor {candidates[1]}.")
        if not found.resolve().is_relative_to(root):
            raise DescriptorFileError(f"The input {name!r} is {found.resolve()}, outside of {root}. Inputs stand beside their descriptor.")
        yield name, found
