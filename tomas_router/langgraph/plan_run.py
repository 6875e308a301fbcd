"""One run of one plan by the executor node: each step is replayed, or called with its resources and recorded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from tomas_router.errors import InfeasibleError
from tomas_router.executors.limits import thread_count, thread_limits
from tomas_router.executors.out_of_memory import is_out_of_memory
from tomas_router.executors.plain import plain
from tomas_router.executors.running_call import CallStoppedError, RunningCall, running
from tomas_router.langgraph.admission import Admission
from tomas_router.langgraph.arguments import resolve
from tomas_router.langgraph.injected import injected_values
from tomas_router.langgraph.observed_step import StepWatch
from tomas_router.langgraph.tool_call import call_tool
from tomas_router.runtime.completions import CallKey, Completions, NotRecordableError
from tomas_router.runtime.keep_lease import KeepLease
from tomas_router.runtime.ledger import Ledger
from tomas_router.runtime.ledger_errors import LedgerBusyError, LedgerFileError
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import ResourceConfig

log = logging.getLogger("tomas_router")


@dataclass
class PlanRun:
    """What the steps of one run share.

    Args:
        plan: as booked, or unbooked.
        tools: by name.
        ledger: where it is booked; None: nowhere.
        larger: admits a step that ran out of memory.
        lease_ms: how long the booking outlives this process.
        thread_id: whose run it is; None: nothing could resume it, so nothing is recorded.
        turn: names the plan's turn within the thread.
        replay: whether to record.
        watch: sees what each run takes.
    """

    plan: ToolPlan
    tools: Mapping[str, Any]
    ledger: Ledger | None
    larger: Admission
    lease_ms: int
    thread_id: str | None
    turn: str
    replay: bool
    watch: StepWatch
    cancelled: threading.Event = field(default_factory=threading.Event)
    _leases: dict[int, KeepLease] = field(default_factory=dict)
    _running: dict[int, RunningCall] = field(default_factory=dict)

    def hold(self, position: int, _: PlanStep) -> AbstractContextManager[object]:
        """Keeps one step's reservation while it runs, and frees it."""
        if self.ledger is None or self.plan.booking_id is None:
            return nullcontext()
        self._leases[position] = KeepLease(self.ledger, self.plan.booking_id, lease_ms=self.lease_ms, step=position)
        return self._leases[position]

    def hold_all(self) -> AbstractContextManager[object]:
        """Keeps the booking, and frees what is left of it."""
        if self.ledger is None or self.plan.booking_id is None:
            return nullcontext()
        return KeepLease(self.ledger, self.plan.booking_id, lease_ms=self.lease_ms)

    def cancel(self) -> None:
        """No further step begins; those that run are asked to stop."""
        self.cancelled.set()
        for call in list(self._running.values()):
            call.stop("cancelled")

    def call(self, step: PlanStep, outputs: Mapping[str, Any]) -> Any:
        """The step's output: recorded, or made now."""
        args = resolve(step.args or {}, outputs)
        key = CallKey.of(self.thread_id or "", f"{self.turn}/{step.id}", step.tool_name, args)
        if self._records and (found := self.completions.completion(key)) is not None:
            log.info("%s (%s) is replayed: it was completed before", step.id, step.tool_name)
            return found.result["output"]
        output = self._called(step, args, key.idempotency_key)
        if self._records:
            self._record(key, step, output)
        return output

    @property
    def completions(self) -> Completions:
        """Where outputs are recorded."""
        assert isinstance(self.ledger, Completions)
        return self.ledger

    @property
    def _records(self) -> bool:
        return self.replay and self.thread_id is not None and isinstance(self.ledger, Completions)

    def _record(self, key: CallKey, step: PlanStep, output: Any) -> None:
        try:
            self.completions.complete(key, step.tool_name, {"output": plain(output)})
        except (NotRecordableError, LedgerFileError, LedgerBusyError) as error:
            log.warning("%s has run and is not recorded, so a resumed run runs it again: %s", step.tool_name, error)

    def _called(self, step: PlanStep, args: dict[str, Any], idempotency_key: str) -> Any:
        position = self.plan.steps.index(step)
        try:
            return self._once(step, args, idempotency_key, step.resource_config, self._is_lost(position))
        except Exception as error:
            if step.resource_config is None or not is_out_of_memory(error):
                raise
            return self._again(step, position, args, idempotency_key, error)

    def _again(
        self, step: PlanStep, position: int, args: dict[str, Any], idempotency_key: str, error: Exception
    ) -> Any:
        """Once more after running out of memory, in a larger configuration; the first one is given back before."""
        if (lease := self._leases.get(position)) is not None:
            lease.release()
        try:
            with self.larger.admit(
                step.tool_name, step, thread_id=self.thread_id, larger_than=step.resource_config
            ) as admitted:
                return self._once(step, args, idempotency_key, admitted.config, lambda: admitted.lost())
        except InfeasibleError as none:
            raise MemoryError(f"it ran out of memory, and not more of it can be had: {none.reason}") from error

    def _once(
        self,
        step: PlanStep,
        args: dict[str, Any],
        idempotency_key: str,
        config: ResourceConfig | None,
        lost: Callable[[], bool],
    ) -> Any:
        tool = self.tools[step.tool_name]
        call = RunningCall(step.tool_name, config, idempotency_key=idempotency_key, lost=lost)
        given = args | injected_values(tool, config, idempotency_key)
        position = self.plan.steps.index(step)
        self._running[position] = call
        if self.cancelled.is_set():
            raise CallStoppedError(f"{step.tool_name} was cancelled before it began", "cancelled")
        timer = threading.Timer((step.timeout_ms or 0) / 1000, call.stop, ["timed out"])
        timer.daemon = True
        if step.timeout_ms is not None:
            timer.start()
        try:
            with running(call), self._limits(config), self.watch.step(step, config, args):
                return call_tool(tool, given)
        finally:
            timer.cancel()
            self._running.pop(position, None)
            if call.should_stop() == "lease lost":
                log.warning("%s lost its booking while it ran; others may have used what it held", step.tool_name)

    def _limits(self, config: ResourceConfig | None) -> AbstractContextManager[object]:
        if config is None or self.plan.booking_id is None:
            return nullcontext()
        return thread_limits(thread_count(config))

    def _is_lost(self, position: int) -> Callable[[], bool]:
        return lambda: position in self._leases and self._leases[position].lost.is_set()
