"""How busy the rest of the host is, beside what is measured."""

from __future__ import annotations

import resource
import time

from tomas_router.extras import import_extra


class HostUse:
    """How busy the rest of the host is while a measurement runs."""

    def __init__(self) -> None:
        self._psutil = import_extra("psutil", "host", "measuring tools needs psutil")
        self._before = time.monotonic(), self._busy_s(), _children_cpu_s()

    def others_busy_cores(self) -> float:
        """Mean number of cores in use by anything but the measuring process; call after its end."""
        began, busy, children = self._before
        others = (self._busy_s() - busy) - (_children_cpu_s() - children)
        return round(max(others, 0.0) / max(time.monotonic() - began, 1e-3), 3)

    def _busy_s(self) -> float:
        times = self._psutil.cpu_times()
        return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
