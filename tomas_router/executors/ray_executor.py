"""Runs a plan on a Ray cluster: every step is a task with the plan's resources, outputs travel as object references.

A task reports in three objects: when it began, what it returned, when it ended. The second one is what later tasks
are given, so outputs go from worker to worker through Ray's object store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tomas_router.executors.booked import Booked, Leases, execute_booked
from tomas_router.executors.execution import (
    ExecutionReport,
    NotExecutableError,
    Outcome,
    StepFailedError,
    require_executable,
)
from tomas_router.executors.references import FROM, references, resolve
from tomas_router.executors.threads import Event, ThreadExecutor
from tomas_router.executors.tools import Tools, absolute, call, load_tools, require_runnable, samples
from tomas_router.runtime.ray_connection import connected_ray, first_line
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.targets.exported import Exported
from tomas_router.targets.ray import GIB, GPU_MEMORY_RESOURCE

LOOK_EVERY_S = 0.1
AS_NODES_SAY = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}


@dataclass(frozen=True)
class RayExecutor:
    """Runs plans as tasks of the cluster that this process is connected to (``ray.init``).

    Ray counts resources and does not limit them; what holds beyond that is in ``tomas targets --to ray``. A step that
    runs longer than its time limit is cancelled by force, which ends its worker; steps that need it are never
    submitted.

    Args:
        tools: ``my_module:tools`` or ``my_file.py:tools``, which each worker imports, so it must be there; or tools by
            name, which Ray sends to the workers.
        gpu_total_gib: memory of one GPU, see ``targets.ray``.
        booked: the ledger; None runs plans as they are.
        on_event: told ``tool_admitted`` and ``tool_finished`` as plain JSON.
        check_expiry: refuse plans whose curve has ended, unless they are booked.
        sample_inputs: a ``ProfiledTool`` in a step without arguments is given its sample input of the step's size.
        max_queue_s: a step that the cluster does not start within that time fails.
    """

    tools: str | Tools
    gpu_total_gib: float | None = None
    booked: Booked | None = None
    on_event: Event | None = None
    check_expiry: bool = True
    sample_inputs: bool = False
    max_queue_s: float = 300.0

    def execute(self, plan: ToolPlan) -> ExecutionReport:
        """Runs every step in its place and waits for all; times are those that the workers saw.

        Raises:
            NotExecutableError: the plan is not planned, has expired, arguments are not bound, or a step asks for more
                than any node of the cluster has.
            UnknownToolError: the plan names a tool that is not here; nothing has run.
            InfeasibleError: there is a ledger, and no room in time.
            RayNotConnectedError: this process is connected to no cluster.
            MissingExtraError: Ray is not installed.
        """
        ray = connected_ray("RayExecutor")
        require_executable(plan, None)
        tools = load_tools(self.tools) if isinstance(self.tools, str) else self.tools
        require_runnable(plan, tools, sample_inputs=self.sample_inputs)
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        counted = GPU_MEMORY_RESOURCE if any(GPU_MEMORY_RESOURCE in node for node in nodes) else None
        options = plan.to_ray(gpu_total_gib=self.gpu_total_gib, gpu_memory_resource=counted)
        _require_room(plan, options, nodes)
        run = _Run(self, ray, tools, options)
        executor = ThreadExecutor(
            run.call, on_event=self.on_event, on_interrupt=run.given_up.set, check_expiry=self.check_expiry
        )
        return execute_booked(plan, self.booked, run.leases, executor)


@dataclass(frozen=True)
class _Run:
    settings: RayExecutor
    ray: Any
    tools: Tools
    options: Mapping[str, Exported]
    leases: Leases = field(default_factory=Leases)
    outputs: dict[str, Any] = field(default_factory=dict)
    """Object references by step id."""
    given_up: threading.Event = field(default_factory=threading.Event)

    def call(self, step: PlanStep, _: Mapping[str, Any]) -> Outcome:
        """Submits a step and follows it from its thread."""
        task = _Task(self, step, self._submitted(step))
        try:
            return task.followed()
        except self.ray.exceptions.RayTaskError as error:  # what the tool raised
            cause = error.cause
            raise StepFailedError(f"{type(cause).__name__}: {cause}", task.begun_s) from None
        except self.ray.exceptions.RayError as error:  # the worker or its node ended
            raise StepFailedError(first_line(error), task.begun_s) from None

    def _submitted(self, step: PlanStep) -> Any:
        sample = self.settings.sample_inputs and samples(step, self.tools[step.tool_name])
        by_name = self.settings.tools
        tool = (absolute(by_name), step.tool_name) if isinstance(by_name, str) else by_name[step.tool_name]
        remote = self.ray.remote(_run_step).options(num_returns="streaming", **self.options[step.id].options)
        asked = [] if sample else [str(found[FROM]) for found in references(step.args or {})]
        ended = [name for name in asked if name in self.outputs]  # of another, the worker says that it returned nothing
        needed = [(name, self.outputs[name]) for name in dict.fromkeys([*step.depends_on, *ended])]
        return remote.remote(
            tool, step.args or {}, step.input_size if sample else None, [n for n, _ in needed], *[o for _, o in needed]
        )


@dataclass
class _Task:
    """A step that was submitted."""

    run: _Run
    step: PlanStep
    stream: Any  # ObjectRefGenerator
    begun_s: float | None = None

    def followed(self) -> Outcome:
        timeout_s = None if self.step.timeout_ms is None else self.step.timeout_ms / 1000
        queue_s = self.run.settings.max_queue_s
        began = self._next(queue_s, f"the cluster did not start it within {queue_s:g} s")
        self.begun_s = began_s = self.run.ray.get(began)
        output = self._next(timeout_s, f"timed out: the time limit is {timeout_s} s, so its worker was ended")
        value = self.run.ray.get(output)
        self.run.outputs[self.step.id] = output
        return Outcome(value, began_s, self.run.ray.get(next(self.stream)))

    def _next(self, within_s: float | None, otherwise: str) -> Any:
        """The next object; the task is cancelled when it does not come in time or must not go on."""
        until = None if within_s is None else time.monotonic() + within_s
        while not self.run.ray.wait([self.stream], timeout=LOOK_EVERY_S, fetch_local=False)[0]:
            reason = self._must_stop() or (otherwise if until is not None and time.monotonic() > until else None)
            if reason is not None:
                self.run.ray.cancel(self.stream, force=True)
                raise StepFailedError(reason, self.begun_s)
        return next(self.stream)

    def _must_stop(self) -> str | None:
        if self.run.given_up.is_set():
            return "stopped: the run was given up"
        lost = self.run.leases.lost(self.step)
        return "stopped: its booking is lost, so others may use what it holds" if lost else None


def _run_step(
    tool: Any, args: Mapping[str, Any], sample: str | None, names: Sequence[str], *outputs: Any
) -> Iterator[Any]:
    """Runs in a worker: when it began, what the tool returned, when it ended (Unix, seconds)."""
    if isinstance(tool, tuple):
        target, name = tool
        tool = _tools_of(target)[name]
    arguments = tool.arguments(sample) if sample else resolve(args, dict(zip(names, outputs, strict=True)))
    yield time.time()
    output = call(tool, arguments)
    ended_s = time.time()
    yield output
    yield ended_s


@lru_cache(maxsize=8)  # a worker runs many steps
def _tools_of(target: str) -> Tools:
    return load_tools(target)


def _require_room(plan: ToolPlan, options: Mapping[str, Exported], nodes: Sequence[Mapping[str, float]]) -> None:
    """Raises where a task would wait for ever."""
    for step in plan.steps:
        asked = options[step.id].options
        amounts = {said: asked[name] for name, said in AS_NODES_SAY.items() if name in asked}
        amounts |= asked.get("resources", {})
        if not any(all(node.get(name, 0) >= amount for name, amount in amounts.items()) for node in nodes):
            there = sorted({_shown({name: node.get(name, 0) for name in amounts}) for node in nodes})
            raise NotExecutableError(
                f"{step.id} ({step.tool_name}) asks for {_shown(amounts)}; no node of the cluster has that much: "
                f"{'; '.join(there)}"
            )


def _shown(amounts: Mapping[str, float]) -> str:
    return ", ".join(
        f"memory {amount / GIB:.3g} GiB" if name == "memory" else f"{name} {amount:g}"
        for name, amount in amounts.items()
    )
