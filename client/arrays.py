"""Many jobs from one descriptor and a file that says, a line a job, how they differ.

JSON lines: each line is an item as the API takes it (docs/PROTOCOL.md, section 17). CSV, for a file that ends in .csv: a header, then a
row a job; the columns `job_id`, `title`, `arguments` (words as in a shell) and `input_files` (likewise) are those of an item, every other
column is an environment variable of that name, and an empty cell sets nothing. A line without a job_id is named after the descriptor's,
with its number.
"""

from __future__ import annotations

import csv
import io
import json
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from client.api import PortalApi, Progress
from client.submission import DescriptorFileError, inputs_check, inputs_upload
from workers.protocol.canonical import json_parse
from workers.protocol.errors import VerificationError

ITEMS_MAX: Final = 1000
REQUEST_BYTES_MAX: Final = 3 * 1024 * 1024
"""Of the items of one request: what the template adds stays within the portal's 4 MiB."""
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
LINE_BYTES_MAX: Final = 512 * 1024
_WORDS: Final = ("arguments", "input_files")


def items_load(path: Path, *, label: str) -> list[dict[str, Any]]:
    """The items in a file; `label` names those without a job_id. What they mean is the portal's to check. Raises DescriptorFileError."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise DescriptorFileError(f"{path}: expected at most {FILE_BYTES_MAX} bytes.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DescriptorFileError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DescriptorFileError(f"{path}: expected UTF-8; the byte at offset {error.start} is not.") from error
    items = list(_rows(path, text) if path.suffix.lower() == ".csv" else _lines(path, text))
    if not items:
        raise DescriptorFileError(f"{path}: expected a line for each job; found none.")
    return [{"job_id": f"{label}-{number}", **item} for number, item in enumerate(items, start=1)]


def array_upload(
    api: PortalApi,
    template: dict[str, Any],
    items: Sequence[dict[str, Any]],
    folder: Path,
    *,
    progress: Callable[[str], Progress] | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Template and items with a digest for each input, each file uploaded once, from where `inputs_upload` finds it.

    Raises DescriptorFileError, PortalError.
    """
    if template.get("input_uri"):
        return template, list(items)
    names = list(dict.fromkeys(name for part in (template, *items) for name in _names_of(part)))
    uploaded = inputs_upload(api, {"input_files": names}, folder, progress=progress, pause=pause)
    found = {each["path"]: each for each in uploaded.get("inputs", [])}
    return _filled(template, found), [_filled(item, found) for item in items]


def requests_of(items: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The items in requests that the portal takes; each request is written whole or not at all."""
    waiting: list[dict[str, Any]] = []
    size_bytes = 0
    for item in items:
        item_bytes = len(json.dumps(item))
        if waiting and (len(waiting) == ITEMS_MAX or size_bytes + item_bytes > REQUEST_BYTES_MAX):
            yield waiting
            waiting, size_bytes = [], 0
        waiting.append(item)
        size_bytes += item_bytes
    if waiting:
        yield waiting


def _lines(path: Path, text: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):  # splitlines() also splits at what strings of JSON may hold
        if not line.strip():
            continue
        try:
            item = json_parse(line.encode(), limit_bytes=LINE_BYTES_MAX)
        except VerificationError as error:
            raise DescriptorFileError(f"{path}, line {number}: {error}") from error
        if not isinstance(item, dict):
            raise DescriptorFileError(f"{path}, line {number}: expected a JSON object; found {type(item).__name__}.")
        inputs_check(item, f"{path}, line {number}")
        yield item


def _rows(path: Path, text: str) -> Iterator[dict[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        names = next(reader, [])
        if len(set(names)) != len(names) or not all(names):
            raise DescriptorFileError(f"{path}: expected a header with a name for each column, each once; found {names}.")
        for row in reader:
            if row:
                yield _row(path, reader.line_num, names, row)
    except csv.Error as error:
        raise DescriptorFileError(f"{path}, line {reader.line_num}: {error}.") from error


def _row(path: Path, number: int, names: Sequence[str], row: Sequence[str]) -> dict[str, Any]:
    if len(row) != len(names):
        raise DescriptorFileError(f"{path}, line {number}: expected {len(names)} cells as the header has; found {len(row)}.")
    item: dict[str, Any] = {}
    environment = {}
    for name, cell in zip(names, row, strict=True):
        if not cell:
            continue
        if name in _WORDS:
            try:
                item[name] = shlex.split(cell)
            except ValueError as error:
                raise DescriptorFileError(f"{path}, line {number}, {name}: {error}.") from error
        elif name in ("job_id", "title"):
            item[name] = cell
        else:
            environment[name] = cell
    return {**item, "environment": environment} if environment else item


def _names_of(part: dict[str, Any]) -> list[str]:
    return [*(each["path"] for each in part.get("inputs", [])), *part.get("input_files", [])]


def _filled(part: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """`part` with what was found of the files that it names. Raises DescriptorFileError where it states another digest."""
    names = list(dict.fromkeys(_names_of(part)))
    for each in part.get("inputs", []):
        if each.get("digest") not in (None, found[each["path"]]["digest"]):
            raise DescriptorFileError(
                f"{each['path']} has the digest {found[each['path']]['digest']}; {each['digest']} is stated. Which one is meant?"
            )
    return {**part, "inputs": [found[name] for name in names]} if names else part
