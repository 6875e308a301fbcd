"""Runs a plan on this machine: every step in a fresh process that is held to what the plan gives it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tomas_router.executors.booked import Booked, Leases, execute_booked
from tomas_router.executors.cpu_pool import CpuPool
from tomas_router.executors.execution import ExecutionReport, Outcome, StepFailedError, require_executable
from tomas_router.executors.processes import GIB, Job, run_process
from tomas_router.executors.references import resolve
from tomas_router.executors.threads import Event, ThreadExecutor
from tomas_router.executors.tools import absolute, load_tools, require_runnable, samples
from tomas_router.extras import import_extra
from tomas_router.profiling.limits import CAN_PIN
from tomas_router.runtime.host import usable_cpus
from tomas_router.runtime.online_profile import ObservedRun
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.targets.exported import Exported


@dataclass(frozen=True)
class LocalExecutor:
    """Runs plans in processes of this machine.

    A step gets whole cores by affinity and as many threads, its memory (it is ended when it takes more), the GPU with
    the variables of MPS, and its time limit, after which all its processes are killed. ``tomas targets --to local``
    says which of it is held. Steps whose booking is lost are ended too: what they held may have been given to others.

    Args:
        tools: ``my_module:tools`` or ``my_file.py:tools``, see ``executors.tools``; each process imports it anew.
        gpu_device: index or UUID of the GPU of the plan's timeline.
        booked: the ledger; None runs plans as they are.
        on_run: told what each run took, for example ``OnlineProfile.observe``, so that later plans know better.
        on_event: told ``tool_admitted`` and ``tool_finished`` as plain JSON.
        check_expiry: refuse plans whose curve has ended, unless they are booked.
        sample_inputs: a ``ProfiledTool`` in a step without arguments is given its sample input of the step's size.
    """

    tools: str
    gpu_device: str = "0"
    booked: Booked | None = None
    on_run: Callable[[ObservedRun], object] | None = None
    on_event: Event | None = None
    check_expiry: bool = True
    sample_inputs: bool = False

    def execute(self, plan: ToolPlan) -> ExecutionReport:
        """Runs every step in its place and waits for all.

        Raises:
            NotExecutableError: the plan is not planned, has expired, or arguments are not bound.
            UnknownToolError: the plan names a tool that is not here; nothing has run.
            InfeasibleError: there is a ledger, and no room in time.
            MissingExtraError: psutil is not installed.
        """
        require_executable(plan, None)
        import_extra("psutil", "host", "LocalExecutor needs psutil")
        tools = load_tools(self.tools)
        require_runnable(plan, tools, sample_inputs=self.sample_inputs)
        run = _Run(self, tools, plan.to_local(gpu_device=self.gpu_device), Leases(), CpuPool(usable_cpus()))
        executor = ThreadExecutor(
            run.call, on_event=self.on_event, on_interrupt=run.given_up.set, check_expiry=self.check_expiry
        )
        return execute_booked(plan, self.booked, run.leases, executor)


@dataclass(frozen=True)
class _Run:
    settings: LocalExecutor
    tools: Mapping[str, Any]
    limits: Mapping[str, Exported]
    leases: Leases
    cpus: CpuPool
    given_up: threading.Event = field(default_factory=threading.Event)

    def call(self, step: PlanStep, outputs: Mapping[str, Any]) -> Outcome:
        options = self.limits[step.id].options
        sample = self.settings.sample_inputs and samples(step, self.tools[step.tool_name])
        with self.cpus.take(options["cpus"]) as cpus:
            job = Job(
                target=absolute(self.settings.tools),
                tool=step.tool_name,
                arguments={} if sample else resolve(step.args or {}, outputs),
                sample=step.input_size if sample else None,
                cpus=cpus if CAN_PIN else (),
                memory_bytes=options["memory_bytes"],
                timeout_s=options["timeout_s"],
                env=options["env"],
                uses_gpu=bool(options["env"]["CUDA_VISIBLE_DEVICES"]),
            )
            return self._observed(step, job)

    def _observed(self, step: PlanStep, job: Job) -> Outcome:
        on_run = self.settings.on_run or _nobody
        try:
            outcome = run_process(job, lambda: self._reason(step))
        except StepFailedError as error:
            if error.out_of_memory and error.begun_s is not None:
                on_run(ObservedRun.of(step, _ms(time.time() - error.begun_s), outcome="out_of_memory"))
            raise
        peak_gib = None if outcome.peak_bytes is None else outcome.peak_bytes / GIB
        on_run(ObservedRun.of(step, _ms(outcome.ended_s - outcome.begun_s), peak_gib))
        return outcome

    def _reason(self, step: PlanStep) -> str | None:
        if self.given_up.is_set():
            return "stopped: the run was given up"
        return "stopped: its booking is lost, so others may use what it holds" if self.leases.lost(step) else None


def _ms(seconds: float) -> float:
    """Never 0, which no run takes, also when a clock is set."""
    return max(seconds * 1000, 0.001)


def _nobody(_: ObservedRun) -> None:
    """Nobody listens."""
