"""NVML, NVIDIA's management library, through its Python binding: opened for a while, asked, closed. Nothing escapes but NvmlError.

The binding takes 70 ms and 18 MB to import, so `nvml_open` does it: a host that lends no GPU never pays for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

log = logging.getLogger(__name__)

ON_THE_CHIP: Final = 0
"""NVML_TEMPERATURE_GPU, the one sensor that every GPU has."""


class NvmlError(Exception):
    """NVML is not there, or does not tell what it was asked; the message is the library's."""


class Nvml:
    """NVML while it is open. Functions are named without their prefix: `ask("DeviceGetCount")`."""

    def __init__(self, binding: Any) -> None:
        self._binding = binding

    def ask(self, function: str, *arguments: Any) -> Any:
        """The answer. Raises NvmlError: the driver has no such function, the GPU does not support it, or is lost."""
        try:
            return getattr(self._binding, f"nvml{function}")(*arguments)
        except (self._binding.NVMLError, UnicodeDecodeError) as error:
            raise NvmlError(f"{function}: {error}") from error

    def told(self, function: str, *arguments: Any) -> Any:
        """The answer, or None where there is none."""
        try:
            return self.ask(function, *arguments)
        except NvmlError as error:
            log.debug("NVML: %s", error)
            return None


@contextmanager
def nvml_open() -> Iterator[Nvml]:
    """NVML until the end of the block; openings may overlap, also between threads. Raises NvmlError where there is no driver."""
    import pynvml  # noqa: PLC0415  see above

    nvml = Nvml(pynvml)
    nvml.ask("Init")
    try:
        yield nvml
    finally:
        nvml.told("Shutdown")
