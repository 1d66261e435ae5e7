"""Whether the kernel killed a process of a container for want of memory, by the kernel's own counters.

The engine's word for it can't be relied on: it hears of the kill and of the end in two ways, notes in the container's state what it knew
at the end, and where the container's counter is gone before it looks, it never says so.

1. The container's own counter is the truth, for as long as it can be read. It goes with the container, and so may be read last before the
   very kill that ended it.
2. Then the machine's counter tells: it stays, and whatever it grew by between the last look at the container and the first one that found
   it gone, a tenth of a second at most on an idle machine, is taken for the container's.
3. The kernel kills for want of memory on the whole machine too, and the largest process is the likeliest to go: a container's that was
   within its limit. That was so where the container counts kills and was never at its own limit. Where that can't be read, or not any
   more, the kill is taken for one of its limit's.
"""

from __future__ import annotations

from collections.abc import Callable

from workers.runtime.cgroups import Cgroup, machine_oom_kills


class OomKills:
    """Of one container: `look` often while it runs and once after its end, from one thread. `found` once there was such a kill.

    `by_machine`: it was for want of memory on the machine, for certain, and not by the container's limit.
    """

    def __init__(self, *, of_machine: Callable[[], int | None] = machine_oom_kills) -> None:
        self.found = False
        self.by_machine = False
        self._of_machine = of_machine
        self._machine_last: int | None = None
        """As of the last look that found the container; None before the first, and where the kernel does not tell."""

    def look(self, cgroup: Cgroup) -> None:
        """Take what the counters say now."""
        # Before the container's: a kill between the two would else be in neither.
        machine = self._of_machine()
        own = cgroup.oom_kills()
        if own is not None:
            if own > 0:
                self.found = True
                self.by_machine = cgroup.memory_refusals() == 0  # counted before the kill that follows, so there by now
            self._machine_last = machine
        elif self._machine_last is not None:
            # After it: the container may have been killed and removed between the two.
            if (self._of_machine() or 0) > self._machine_last:
                self.found, self.by_machine = True, False
            self._machine_last = None
