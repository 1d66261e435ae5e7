"""Rules that join several fields of a descriptor. Pure; each yields faults and none raises.

1. A GPU is asked for on GPU tiers, and only there.
2. `limits` do not exceed what `requirements` asks of the node; outputs fit the disk limit.
3. `quorum` is at most `copies`. A `spot` job runs once to begin with, and only such a job has a `spot_share`.
4. Paths of one kind are distinct, also on file systems that ignore case, and no file stands where another needs a folder.
5. Files that are compared are expected outputs, and required ones; rules belong to numeric comparison, and to formats that know them.
6. Without `input_uri`, every one of `input_files` is an upload in `inputs`; with it, there are `input_files` to fetch.
7. Environment names starting with NEXA_ are the host's; all values together are bounded, and so is the command line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jobs.descriptor.errors import Fault, pointer
from jobs.descriptor.formats import STRUCTURES, TABLES, WITH_COLUMNS, FileFormat, NanPolicy, RowOrder
from jobs.descriptor.model import GB, MB, ComparedFile, Descriptor, RedundancyPolicy, VerificationMethod
from workers.protocol.messages.machine import Tier

ENVIRONMENT_BYTES_MAX = 64 * 1024
ARGUMENTS_BYTES_MAX = 64 * 1024


def consistency_faults(descriptor: Descriptor) -> list[Fault]:
    """Every contradiction in `descriptor`: in what the jobs of an array share, in its inputs, in its command line."""
    return [*shared_faults(descriptor), *input_faults(descriptor), *command_faults(descriptor)]


def shared_faults(descriptor: Descriptor) -> list[Fault]:
    """Rules 1 to 5, of outputs: what no item of an array can change."""
    return [*_gpu(descriptor), *_limits(descriptor), *_quorum(descriptor), *_output_paths(descriptor), *_comparison(descriptor)]


def input_faults(descriptor: Descriptor) -> list[Fault]:
    """Rules 4, of inputs, and 6."""
    return [*_input_paths(descriptor), *_inputs(descriptor)]


def command_faults(descriptor: Descriptor) -> list[Fault]:
    """Rule 7."""
    return list(_environment(descriptor))


def _gpu(descriptor: Descriptor) -> Iterator[Fault]:
    needs, tier = descriptor.requirements, descriptor.tier
    if tier == 0:
        if needs.gpu or needs.gpu_count:
            named = "gpu" if needs.gpu else "gpu_count"
            yield Fault(
                pointer("requirements", named),
                "gpu_tier_mismatch",
                f"Tier 0 is {Tier.CPU}: its nodes need no GPU. Ask for tier 1 to 3, or drop the GPU.",
            )
        if needs.vram_gb:
            yield Fault(
                pointer("requirements", "vram_gb"),
                "gpu_tier_mismatch",
                f"GPU memory was asked for on tier 0 ({Tier.CPU}). Ask for tier 1 to 3, or drop vram_gb.",
            )
    elif needs.gpu is False or needs.gpu_count == 0:
        named = "gpu" if needs.gpu is False else "gpu_count"
        yield Fault(
            pointer("requirements", named),
            "gpu_tier_mismatch",
            f"Tier {tier} is {descriptor.tier_name}, a class of GPU nodes, and the job asks for no GPU. Use tier 0, or ask for a GPU.",
        )


def _limits(descriptor: Descriptor) -> Iterator[Fault]:
    limits, needs = descriptor.limits, descriptor.requirements
    if limits.memory_mb and needs.ram_gb is not None and limits.memory_mb * MB > needs.ram_gb * GB:
        yield _limit_fault("memory_mb", f"{limits.memory_mb} MB", "ram_gb", f"{needs.ram_gb:g} GB")
    if limits.disk_mb and needs.disk_gb is not None and limits.disk_mb * MB > needs.disk_gb * GB:
        yield _limit_fault("disk_mb", f"{limits.disk_mb} MB", "disk_gb", f"{needs.disk_gb:g} GB")
    if limits.cpus and needs.cores is not None and limits.cpus > needs.cores:
        yield _limit_fault("cpus", f"{limits.cpus:g}", "cores", f"{needs.cores:g}")
    effective = descriptor.run_limits
    if effective.output_bytes > effective.disk_bytes:
        yield Fault(
            pointer("limits", "output_mb"),
            "limit_exceeds_disk",
            f"Outputs are on the job's disk: expected at most {effective.disk_bytes // MB} MB, found {effective.output_bytes // MB} MB. "
            "Raise limits.disk_mb or lower limits.output_mb.",
        )


def _limit_fault(limit: str, found: str, requirement: str, expected: str) -> Fault:
    return Fault(
        pointer("limits", limit),
        "limit_exceeds_requirement",
        f"The container may use {found} and the node need only have {expected}. Raise requirements.{requirement} or lower limits.{limit}.",
    )


def _quorum(descriptor: Descriptor) -> Iterator[Fault]:
    verification = descriptor.verification
    if verification.quorum > verification.copies:
        yield Fault(
            pointer("verification", "quorum"),
            "quorum_exceeds_copies",
            f"Expected at most copies, {verification.copies}; found {verification.quorum}. Raise copies or lower quorum.",
        )
    if verification.policy == RedundancyPolicy.SPOT:
        for name, found in (("copies", verification.copies), ("quorum", verification.quorum)):
            if found != 1:
                message = f"A job of the policy spot runs once, or twice where the draw says so; found {found}. Leave {name} out."
                yield Fault(pointer("verification", name), "spot_runs_once", message)
    elif verification.spot_share is not None:
        message = f"A share is drawn of jobs of the policy spot only; found the policy {verification.policy}. Leave spot_share out."
        yield Fault(pointer("verification", "spot_share"), "spot_share_unused", message)


def _input_paths(descriptor: Descriptor) -> Iterator[Fault]:
    yield from _path_faults("input_files", list(descriptor.input_files), None)
    yield from _path_faults("inputs", [each.path for each in descriptor.inputs], "path")


def _output_paths(descriptor: Descriptor) -> Iterator[Fault]:
    yield from _path_faults("outputs", [each.path for each in descriptor.outputs], "path")
    yield from _path_faults("verification/files", [each.path for each in descriptor.verification.files], "path")


def _path_faults(array: str, paths: Sequence[str], member: str | None) -> Iterator[Fault]:
    folded = [path.casefold() for path in paths]
    files = set(folded)
    seen: dict[str, int] = {}
    for index, path in enumerate(folded):
        place = f"/{array}" + (pointer(index, member) if member else pointer(index))
        if path in seen:
            yield Fault(place, "path_duplicate", f"{paths[index]!r} is also at index {seen[path]} (case ignored). Name each file once.")
        seen.setdefault(path, index)
        parts = path.split("/")
        if any("/".join(parts[:count]) in files for count in range(1, len(parts))):
            yield Fault(place, "path_conflict", f"{paths[index]!r} needs a folder where another entry is a file. Rename one of them.")


def _comparison(descriptor: Descriptor) -> Iterator[Fault]:
    numeric = descriptor.verification.method == VerificationMethod.NUMERIC
    expected = {each.path: each.required for each in descriptor.outputs}
    for index, each in enumerate(descriptor.verification.files):
        if not expected.get(each.path, False):
            yield Fault(
                pointer("verification", "files", index, "path"),
                "comparison_file_not_output",
                f"{each.path!r} is compared, so every run must leave it. List it in outputs with required true.",
            )
        place = pointer("verification", "files", index)
        yield from _numeric_rule_faults(place, each) if numeric else _exact_rule_faults(place, each)


def _exact_rule_faults(place: str, file: ComparedFile) -> Iterator[Fault]:
    if file != ComparedFile(path=file.path):
        message = "The method exact compares bytes and knows neither tolerances nor formats. Drop them, or use the method numeric."
        yield Fault(place, "comparison_tolerance_unused", message)


def _numeric_rule_faults(place: str, file: ComparedFile) -> Iterator[Fault]:
    kind = file.read_as
    if kind is None:
        message = f"The ending of {file.path!r} stands for no format. Name the format: {', '.join(FileFormat)}."
        yield Fault(place + pointer("format"), "comparison_format_unknown", message)
        return
    tolerant = file.absolute is not None or file.relative is not None
    unused = {
        "absolute" if file.absolute is not None else "relative": tolerant and kind is FileFormat.BYTES,
        "columns": file.columns is not None and kind not in WITH_COLUMNS,
        "nan": file.nan is not NanPolicy.EQUAL and kind in {FileFormat.BYTES, *STRUCTURES},
        "header": file.header is not None and kind not in TABLES,
        "order": file.order is not RowOrder.FIXED and kind not in TABLES,
        "key": bool(file.key) and file.order is not RowOrder.ANY,
        "superpose": not file.superpose and kind not in STRUCTURES,
    }
    for option in (option for option, is_unused in unused.items() if is_unused):
        why = "rows in any order have a key" if option == "key" else f"files read as {kind} have no such rule"
        yield Fault(place + pointer(option), "comparison_rule_unused", f"{option!r} means nothing here: {why}. Drop it.")
    if file.order is RowOrder.ANY and kind in TABLES and not file.key:
        message = "Rows in any order are matched by exact cells. Name the columns that tell them apart in key, or use the order fixed."
        yield Fault(place + pointer("key"), "comparison_key_missing", message)
    for name in file.key:
        if name in (file.columns or {}):
            message = f"{name!r} is a key, and keys are matched exactly: it can have no tolerance. Drop it from columns or from key."
            yield Fault(place + pointer("columns", name), "comparison_key_tolerant", message)


def _inputs(descriptor: Descriptor) -> Iterator[Fault]:
    if descriptor.input_uri is not None:
        yield from _source_faults(descriptor)
        if not descriptor.input_files:
            yield Fault(
                pointer("input_files"), "input_files_missing", "input_uri is a folder; name the files to fetch from it, or drop input_uri."
            )
        return
    uploads = {each.path for each in descriptor.inputs}
    for index, path in enumerate(descriptor.input_files):
        if path not in uploads:
            yield Fault(
                pointer("input_files", index),
                "input_source_missing",
                f"{path!r} has no source. Upload it and give its digest in inputs, or say where it is in input_uri.",
            )


def _source_faults(descriptor: Descriptor) -> Iterator[Fault]:
    """Fetched and uploaded files lie in one folder: all of a job's runs would fail where they can't."""
    uploads = {each.path for each in descriptor.inputs}
    folded = {path.casefold() for path in uploads}
    folders = {folder for path in folded for folder in _folders_of(path)}
    for index, path in enumerate(descriptor.input_files):
        one = path.casefold()
        if path not in uploads and (one in folded or one in folders or not folded.isdisjoint(_folders_of(one))):
            message = f"{path!r} and a file of inputs can't be in one folder (case ignored). Rename one of them."
            yield Fault(pointer("input_files", index), "path_conflict", message)


def _folders_of(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _environment(descriptor: Descriptor) -> Iterator[Fault]:
    for name in descriptor.environment:
        if name.upper().startswith("NEXA_"):
            yield Fault(
                pointer("environment", name), "environment_reserved", f"{name} is reserved: names starting with NEXA_ are set by the host."
            )
    size_bytes = sum(len(name.encode()) + len(value.encode()) for name, value in descriptor.environment.items())
    if size_bytes > ENVIRONMENT_BYTES_MAX:
        yield Fault(
            pointer("environment"),
            "too_large",
            f"Expected at most {ENVIRONMENT_BYTES_MAX} bytes of names and values, found {size_bytes}. Put data into an input file.",
        )
    size_bytes = sum(len(argument.encode()) for argument in descriptor.argv)
    if size_bytes > ARGUMENTS_BYTES_MAX:
        yield Fault(
            pointer("arguments" if descriptor.arguments else "command"),
            "too_large",
            f"Expected at most {ARGUMENTS_BYTES_MAX} bytes of command and arguments, found {size_bytes}. Put data into an input file.",
        )
