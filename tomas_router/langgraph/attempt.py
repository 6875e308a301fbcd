"""One attempt to run a call: it is admitted, runs, and ends; after running out of memory there is another one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tomas_router.executors.running_call import RunningCall
from tomas_router.langgraph.admission import Lease
from tomas_router.langgraph.planned_call import PlannedCall
from tomas_router.schema.profiling import ResourceConfig


@dataclass
class Attempt:
    """What is known of an attempt; ``lease`` stays None until it is admitted."""

    call: PlannedCall
    larger_than: ResourceConfig | None = None
    """What was not enough memory at the attempt before."""
    unbooked: bool = False
    """Without the ledger, because that is gone."""
    lease: Lease | None = None
    running: RunningCall | None = None
    begun_s: float = field(default_factory=time.monotonic)

    def terms(self) -> dict[str, Any]:
        """Further arguments of ``Admission.admit``."""
        self.running = RunningCall(self.call.name, idempotency_key=self.call.idempotency_key, lost=self._is_lost)
        return {
            "thread_id": self.call.thread_id,
            "on_event": self.call.write,
            "larger_than": self.larger_than,
            "until": self.running.ended,
        }

    def begin(self, lease: Lease) -> RunningCall:
        """It runs from now on, with what the lease says."""
        assert self.running is not None, "terms come first"
        self.lease, self.begun_s = lease, time.monotonic()
        self.running.config = lease.config
        return self.running

    def _is_lost(self) -> bool:
        return self.lease is not None and self.lease.lost()
