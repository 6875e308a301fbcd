"""Admits tool calls: each books what it takes before it runs, keeps the booking while it runs, and frees it afterwards.

Used by the middleware, and usable without it: ``with admission.admit("ocr") as lease: run(lease.config)``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Literal

from tomas_router.errors import InfeasibleError
from tomas_router.langgraph.approval import Footprint, FootprintOver
from tomas_router.langgraph.state import AnyTimeline, current
from tomas_router.planner.allocator import Allocation
from tomas_router.planner.demand import Option, ResourceOption
from tomas_router.planner.in_turn import StartInTurn
from tomas_router.runtime.booking import BookingTerms, wall_clock_ms
from tomas_router.runtime.keep_lease import KeepLease
from tomas_router.runtime.ledger import LeaseLostError, Ledger
from tomas_router.runtime.memory_watch import MemoryUse
from tomas_router.runtime.timeline import SystemTimeline
from tomas_router.runtime.tracing import NO_SPAN, Span, begun_span, span
from tomas_router.schema.plan import PlanStep
from tomas_router.schema.profiling import InputSize, ProfilingTable, ResourceConfig

OnInsufficient = Literal["queue", "degrade", "fail"]
Event = Callable[[dict[str, Any]], object]
POLL_S = 0.02


@dataclass
class Lease:
    """What one call may use while it runs."""

    tool: str
    config: ResourceConfig | None
    """None: a light tool; nothing is booked for it."""
    expected_ms: float | None
    waited_ms: int
    booking_id: str | None = None
    degraded: bool = False
    """Not the preferred configuration, because that one would have had to wait."""
    use: MemoryUse | None = None
    """What the run took; set while it runs."""
    lost: Callable[[], bool] = field(default=lambda: False, repr=False)
    """Whether the booking does not count any more; a tool that can stop should."""


class Admission:
    """Admits calls of tools on one machine.

    Tools without a measured profile are light: they run at once and book nothing, unless a plan gives them a
    configuration.
    """

    def __init__(
        self,
        ledger: Ledger | None,
        timeline: AnyTimeline | None,
        profiling: ProfilingTable | None = None,
        *,
        approval: FootprintOver | None = None,
        on_insufficient: OnInsufficient = "queue",
        max_wait_s: float = 60.0,
        tenant: str = "",
        lease_ms: int = 15_000,
    ) -> None:
        """Takes the machine.

        Args:
            ledger: where calls are booked; None admits everything at once.
            timeline: what the machine offers when nothing of the ledger runs; a curve without an epoch begins now.
            profiling: measured configurations, for calls that are not planned and for other configurations.
            approval: what a person is asked about. What was planned may have been approved; another configuration that
                takes more than that is not taken where a person would have to be asked.
            on_insufficient: ``queue`` waits for the preferred configuration; ``degrade`` takes any measured one that
                may start at once, and waits when there is none; ``fail`` refuses at once.
            max_wait_s: how long to wait.
            tenant: whose quota counts.
            lease_ms: how long a booking outlives this process.

        Raises:
            ValueError: there is a ledger and no timeline, or ``on_insufficient`` is none of the three.
        """
        if ledger is not None and timeline is None:
            raise ValueError("a ledger needs a timeline (resources=...): what does the machine offer?")
        if on_insufficient not in ("queue", "degrade", "fail"):
            raise ValueError(f"on_insufficient must be queue, degrade or fail, got {on_insufficient!r}")
        self.ledger, self.profiling, self.approval = ledger, profiling, approval
        self.on_insufficient, self.max_wait_s = on_insufficient, max_wait_s
        self.tenant, self.lease_ms = tenant, lease_ms
        if isinstance(timeline, SystemTimeline) and timeline.epoch_ms is None:
            timeline = timeline.with_epoch(wall_clock_ms())
        self._timeline = timeline

    @contextmanager
    def admit(
        self,
        tool: str,
        step: PlanStep | None = None,
        *,
        thread_id: str | None = None,
        larger_than: ResourceConfig | None = None,
        on_event: Event | None = None,
        until: threading.Event | None = None,
    ) -> Iterator[Lease]:
        """Waits for room, holds it while the block runs, and frees it.

        Args:
            tool: its name.
            step: what was planned for this call.
            thread_id: noted in the ledger.
            larger_than: only configurations with more memory, after that one ran out of it.
            on_event: told ``tool_queued`` and ``tool_admitted``.
            until: at the end of the block the booking is kept until this is set, because a thread cannot be stopped.

        Raises:
            InfeasibleError: there is no room, or was none within ``max_wait_s``.
            LedgerFileError: the ledger cannot be used.
        """
        waiting = self._begin(tool, step, thread_id, larger_than)
        if waiting is None:
            yield self._unbooked(tool, step, larger_than)
            return
        with span("tomas.admit", {"tomas.tool": waiting.shown}) as opened, waiting:
            waiting.within = copy_context()
            while (lease := waiting.attempt(on_event)) is None:
                time.sleep(POLL_S)
            opened.set_attributes({"tomas.waited_ms": lease.waited_ms, "tomas.degraded": lease.degraded})
        kept = self._kept(lease)
        kept.__enter__()
        try:
            yield lease
        finally:
            _leave(kept, until)

    @asynccontextmanager
    async def aadmit(
        self,
        tool: str,
        step: PlanStep | None = None,
        *,
        thread_id: str | None = None,
        larger_than: ResourceConfig | None = None,
        on_event: Event | None = None,
        until: threading.Event | None = None,
    ) -> AsyncIterator[Lease]:
        """``admit`` for coroutines: waits without holding a thread, and leaves the line when it is cancelled.

        Args:
            tool: as for ``admit``.
            step: as for ``admit``.
            thread_id: as for ``admit``.
            larger_than: as for ``admit``.
            on_event: as for ``admit``.
            until: as for ``admit``.
        """
        waiting = await asyncio.to_thread(self._begin, tool, step, thread_id, larger_than)
        if waiting is None:
            yield self._unbooked(tool, step, larger_than)
            return
        with span("tomas.admit", {"tomas.tool": waiting.shown}) as opened:
            waiting.within = copy_context()
            try:
                while (lease := await _finished(waiting.attempt, on_event, undo=self._give_back)) is None:
                    await asyncio.sleep(POLL_S)
            finally:
                await _to_the_end(waiting.leave)
            opened.set_attributes({"tomas.waited_ms": lease.waited_ms, "tomas.degraded": lease.degraded})
        kept = self._kept(lease)
        await asyncio.to_thread(kept.__enter__)
        try:
            yield lease
        finally:
            await _to_the_end(_leave, kept, until)

    def options(self, tool: str, step: PlanStep | None, larger_than: ResourceConfig | None = None) -> list[Option]:
        """Ways to run a call, the preferred one first; none for a light tool."""
        planned = _planned(step)
        size: InputSize = "medium" if step is None else step.input_size
        rows: Sequence[Option] = () if self.profiling is None else self._rows(tool, size)
        if larger_than is not None:
            more = [r for r in rows if (r.cpu_mem_gb, r.gpu_mem_gb) != (larger_than.cpu_mem_gb, larger_than.gpu_mem_gb)]
            more = [
                r for r in more if r.cpu_mem_gb >= larger_than.cpu_mem_gb and r.gpu_mem_gb >= larger_than.gpu_mem_gb
            ]
            allowed = [r for r in more if self._needs_no_new_approval(step, r)]
            return sorted(allowed, key=lambda r: (r.gpu_mem_gb, r.cpu_mem_gb, r.latency_ms))
        preferred = [planned] if planned is not None else sorted(rows, key=lambda r: r.latency_ms)[:1]
        if self.on_insufficient != "degrade":
            return [*preferred]
        others = sorted(rows, key=lambda r: r.latency_ms)
        others = [row for row in others if self._needs_no_new_approval(step, row)]
        return [*preferred, *(row for row in others if _amounts(row) != _amounts(preferred[0]))]

    def _needs_no_new_approval(self, step: PlanStep | None, option: Option) -> bool:
        """Whether it takes no more than planned, or nobody would be asked about it."""
        if self.approval is None:
            return True
        planned = _planned(step)
        if planned is not None and all(a <= b for a, b in zip(_amounts(option), _amounts(planned), strict=True)):
            return True
        return not self.approval.asks_about(Footprint(*_amounts(option), seconds=option.latency_ms / 1000))

    def _rows(self, tool: str, size: InputSize) -> Sequence[Option]:
        assert self.profiling is not None
        return self.profiling.rows(tool, size) or self.profiling.rows(tool)

    def _begin(
        self, tool: str, step: PlanStep | None, thread_id: str | None, larger_than: ResourceConfig | None
    ) -> _Waiting | None:
        options = self.options(tool, step, larger_than)
        if larger_than is not None and not options:
            raise InfeasibleError(f"{tool} ran out of memory, and no larger configuration is measured")
        if self.ledger is None or not options:
            return None
        terms = BookingTerms(lease_ms=self.lease_ms, tenant=self.tenant, thread_id=thread_id)
        wait_ms = 0 if self.on_insufficient == "fail" else round(self.max_wait_s * 1000)
        shown = tool if step is None else step.tool_identity
        turn = StartInTurn(options, self._now, self.ledger, max_wait_ms=wait_ms, terms=terms, name=tool, tool=shown)
        return _Waiting(tool, options, turn, time.monotonic(), shown)

    def _unbooked(self, tool: str, step: PlanStep | None, larger_than: ResourceConfig | None) -> Lease:
        """For a light tool, and where there is no ledger."""
        if larger_than is None:
            return _light(tool, step)
        option = self.options(tool, step, larger_than)[0]
        cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb = _amounts(option)
        config = ResourceConfig(cpu_core=cpu_core, cpu_mem_gb=cpu_mem_gb, gpu_sm=gpu_sm, gpu_mem_gb=gpu_mem_gb)
        return Lease(tool, config, option.latency_ms, 0)

    def _now(self) -> SystemTimeline:
        timeline = current(self._timeline)
        assert timeline is not None, "a ledger has a timeline"
        return timeline

    def _kept(self, lease: Lease) -> AbstractContextManager[object]:
        assert self.ledger is not None
        assert lease.booking_id is not None
        kept = KeepLease(self.ledger, lease.booking_id, lease_ms=self.lease_ms)
        lease.lost = kept.lost.is_set
        return kept

    def _give_back(self, lease: Lease | None) -> None:
        if lease is not None and lease.booking_id is not None and self.ledger is not None:
            with suppress(LeaseLostError):
                self.ledger.release(lease.booking_id)


@dataclass
class _Waiting:
    """A call that waits for room."""

    tool: str
    options: Sequence[Option]
    turn: StartInTurn
    since_s: float
    shown: str
    """What traces and the ledger call the tool."""
    within: Context = field(default_factory=copy_context, repr=False)
    """Where its span belongs: attempts run in threads that do not know."""
    _told: bool = False
    _queue: Span = NO_SPAN

    def attempt(self, on_event: Event | None) -> Lease | None:
        placed = self.turn.attempt()
        if placed is not None:
            self._end_queue()
            lease = self._lease(placed)
            _tell(on_event, lease)
            return lease
        if not self._told:
            self._told = True
            self._queue = self.within.run(begun_span, "tomas.queue", {"tomas.tool": self.shown})
            if on_event is not None:
                on_event({"type": "tool_queued", "tool": self.tool})
        return None

    def leave(self) -> None:
        self._end_queue()
        self.turn.leave()

    def _end_queue(self) -> None:
        self._queue.end()
        self._queue = NO_SPAN

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.leave()

    def _lease(self, placed: Allocation) -> Lease:
        waited_ms = round((time.monotonic() - self.since_s) * 1000)
        expected_ms = self.options[placed.option_index].latency_ms
        return Lease(self.tool, placed.config, expected_ms, waited_ms, placed.booking_id, placed.option_index > 0)


async def _finished(
    attempt: Callable[..., Lease | None], *args: Any, undo: Callable[[Lease | None], None]
) -> Lease | None:
    """Runs an attempt in a thread; when it is cancelled meanwhile, what the attempt books is given back."""
    inside = copy_context().run  # events are written from there
    task = asyncio.get_running_loop().run_in_executor(None, inside, attempt, *args)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: None if done.cancelled() or done.exception() else undo(done.result()))
        raise


async def _to_the_end(call: Callable[..., object], *args: object) -> None:
    """Runs it in a thread, also when this task is cancelled."""
    await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, call, *args))


def _leave(kept: AbstractContextManager[object], until: threading.Event | None) -> None:
    """At once, or from a thread as soon as ``until`` is set."""
    if until is None or until.is_set():
        kept.__exit__(None, None, None)
    else:
        threading.Thread(target=_leave_after, args=(until, kept), daemon=True).start()


def _leave_after(until: threading.Event, kept: AbstractContextManager[object]) -> None:
    until.wait()
    kept.__exit__(None, None, None)


def _tell(on_event: Event | None, lease: Lease) -> None:
    if on_event is not None:
        config = None if lease.config is None else lease.config.model_dump()
        event = {"type": "tool_admitted", "tool": lease.tool, "resources": config, "waited_ms": lease.waited_ms}
        on_event(event | {"degraded": lease.degraded})


def _light(tool: str, step: PlanStep | None) -> Lease:
    planned = step is not None and step.resource_config is not None
    return Lease(
        tool, step.resource_config if planned and step else None, step.expected_latency_ms if step else None, 0
    )


def _planned(step: PlanStep | None) -> Option | None:
    if step is None or step.resource_config is None or step.expected_latency_ms is None:
        return None
    config = step.resource_config
    latency_ms = max(step.expected_latency_ms, 1.0)
    return ResourceOption(config.cpu_core, config.cpu_mem_gb, config.gpu_sm, config.gpu_mem_gb, latency_ms)


def _amounts(option: Option) -> tuple[float, float, float, float]:
    return option.cpu_core, option.cpu_mem_gb, option.gpu_sm, option.gpu_mem_gb
