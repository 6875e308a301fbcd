"""Runs a plan's steps from threads of this process, as early as dependencies and the plan's order of use allow.

A step starts when its planned start has come and every step that was planned to end before it has ended. So steps that
run longer than planned delay those behind them, instead of taking more of the machine than was planned. A tool that
runs in a thread cannot be stopped, so its time limit is reported, not enforced; ``LocalExecutor`` and ``RayExecutor``
use the same order to run tools in processes, which can.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tomas_router.executors.execution import (
    ExecutionReport,
    Outcome,
    StepFailedError,
    StepReport,
    placed,
    require_executable,
)
from tomas_router.executors.plain import plain
from tomas_router.schema.plan import PlanStep, ToolPlan

Call = Callable[[PlanStep, Mapping[str, Any]], Any]
"""(step, outputs of the steps that ended well, by id) to the output, or an ``Outcome`` with times of its own."""
Hold = Callable[[int, PlanStep], AbstractContextManager[object]]
"""(position, step) to what is held while it runs, for example a lease."""
Event = Callable[[dict[str, Any]], object]

MAX_THREADS = 16
MAX_ERROR_CHARS = 500


@dataclass
class ThreadExecutor:
    """Runs plans by calling ``call`` for every step.

    Args:
        call: runs one step; what it raises fails the step, and the steps that need it are not run.
        hold: entered before a step runs, left when it has ended.
        on_event: told ``tool_admitted`` and ``tool_finished`` as plain JSON.
        on_interrupt: told when the run is given up, for example by Ctrl-C, to stop what ``call`` still waits for.
        check_expiry: refuse plans whose curve has ended.
        stopped: asked before a step begins; once it is true, no further step does.
    """

    call: Call
    hold: Hold | None = None
    on_event: Event | None = None
    on_interrupt: Callable[[], object] | None = None
    check_expiry: bool = True
    stopped: Callable[[], bool] = lambda: False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def execute(self, plan: ToolPlan) -> ExecutionReport:
        """Runs every step in its place and waits for all.

        Raises:
            NotExecutableError: the plan is not planned, has expired, or its steps are out of order.
        """
        require_executable(plan, datetime.now(UTC) if self.check_expiry else None)
        run = _Run(plan, self)
        with ThreadPoolExecutor(min(len(plan.steps), MAX_THREADS), thread_name_prefix="tool") as pool:
            try:
                run.all_steps(pool)
            except BaseException:
                if self.on_interrupt is not None:
                    self.on_interrupt()
                raise
        return ExecutionReport(tuple(sorted(run.reports.values(), key=lambda r: (r.start_ms, r.end_ms))))

    def tell(self, event: dict[str, Any]) -> None:
        """Passes an event on, one at a time."""
        if self.on_event is not None:
            with self._lock:
                self.on_event(event)


class _Run:
    """One run of one plan; only ``_one_step`` runs in other threads."""

    def __init__(self, plan: ToolPlan, executor: ThreadExecutor) -> None:
        self.plan, self.executor = plan, executor
        self.submitted_s = datetime.fromisoformat(plan.created_at).timestamp()
        self.reports: dict[str, StepReport] = {}
        self.outputs: dict[str, Any] = {}
        times = {step.id: placed(step) for step in plan.steps}
        self.after = {
            step.id: {other.id for other in plan.steps if times[other.id][1] <= times[step.id][0]}
            for step in plan.steps
        }

    def all_steps(self, pool: ThreadPoolExecutor) -> None:
        waiting = {step.id: (position, step) for position, step in enumerate(self.plan.steps)}
        running: dict[Future[StepReport], PlanStep] = {}
        while waiting or running:
            for position, step in list(waiting.values()):
                if self.executor.stopped():
                    self._not_run(step, "the run was cancelled before it")
                    del waiting[step.id]
                    continue
                failed = [d for d in step.depends_on if d in self.reports and self.reports[d].status != "done"]
                if failed:
                    self._not_run(step, f"needs {', '.join(failed)}, which did not end well")
                    del waiting[step.id]
                elif self.after[step.id] <= self.reports.keys() and self._wait_s(step) <= 0:
                    running[pool.submit(copy_context().run, self._one_step, position, step)] = step
                    del waiting[step.id]
            self._until_something_happens(waiting, running)

    def _until_something_happens(
        self, waiting: Mapping[str, tuple[int, PlanStep]], running: dict[Future[StepReport], PlanStep]
    ) -> None:
        due = [self._wait_s(step) for _, step in waiting.values() if self.after[step.id] <= self.reports.keys()]
        timeout_s = max(0.0, min(due)) if due else None
        if not running:
            time.sleep(timeout_s or 0.0)
            return
        for future in wait(running, timeout_s, FIRST_COMPLETED).done:
            step = running.pop(future)
            report = future.result()
            self.reports[step.id] = report
            if report.status == "done":
                self.outputs[step.id] = report.output
            self.executor.tell(
                {"type": "tool_finished", "step": step.id, "tool": step.tool_name, "status": report.status}
                | {"took_ms": report.end_ms - report.start_ms, "expected_ms": step.expected_latency_ms}
            )

    def _one_step(self, position: int, step: PlanStep) -> StepReport:
        config = step.resource_config
        self.executor.tell(
            {"type": "tool_admitted", "step": step.id, "tool": step.tool_name}
            | {"resources": None if config is None else config.model_dump()}
        )
        hold = self.executor.hold
        begun = self._now_ms()
        try:
            with nullcontext() if hold is None else hold(position, step):
                begun = self._now_ms()
                returned = self.executor.call(step, dict(self.outputs))
                if isinstance(returned, Outcome):
                    return self._done_elsewhere(step, returned)
                output = plain(returned)
        except Exception as error:  # noqa: BLE001 - a tool may raise anything; the plan goes on without it
            if isinstance(error, StepFailedError) and error.begun_s is not None:
                begun = self._ms(error.begun_s)
            return StepReport(step.id, step.tool_name, "failed", begun, self._now_ms(), shown(error))
        ended = self._now_ms()
        late = step.timeout_ms is not None and ended - begun > step.timeout_ms
        note = f"ran {ended - begun} ms, its time limit is {step.timeout_ms} ms" if late else None
        return StepReport(step.id, step.tool_name, "done", begun, ended, note, output)

    def _done_elsewhere(self, step: PlanStep, outcome: Outcome) -> StepReport:
        begun, ended = self._ms(outcome.begun_s), self._ms(outcome.ended_s)
        return StepReport(step.id, step.tool_name, "done", begun, ended, outcome.note, plain(outcome.output))

    def _not_run(self, step: PlanStep, note: str) -> None:
        now = self._now_ms()
        self.reports[step.id] = StepReport(step.id, step.tool_name, "not_run", now, now, note)

    def _wait_s(self, step: PlanStep) -> float:
        return self.submitted_s + placed(step)[0] / 1000 - time.time()

    def _now_ms(self) -> int:
        return self._ms(time.time())

    def _ms(self, at_s: float) -> int:
        return max(0, round((at_s - self.submitted_s) * 1000))


def shown(error: BaseException) -> str:
    """Kind and message, on one line; what was seen of a tool elsewhere has its kind in the message."""
    kind = "" if isinstance(error, StepFailedError) else f"{type(error).__name__}: "
    text = " ".join(f"{kind}{error}".split())
    return text if len(text) <= MAX_ERROR_CHARS else f"{text[: MAX_ERROR_CHARS - 3]}..."
