"""Tomas Router as middleware of ``langchain.agents.create_agent``: one line in an agent that exists.

::

    agent = create_agent(model, tools, middleware=[ToolRouterMiddleware(Planner.load())])

Each turn of a person is planned once. The model still writes every call and all of its arguments; the plan decides
which tools it is shown (``narrow``), which of its calls may run (``on_unplanned_call``), and with what of the machine
(``ledger``).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Annotated, Any, Literal, NotRequired

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
    ToolCallRequest,
)
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command

from tomas_router.errors import InfeasibleError, TomasRouterError
from tomas_router.langgraph.admission import Admission, Lease, OnInsufficient
from tomas_router.langgraph.injected import bind_resources
from tomas_router.langgraph.state import AnyTimeline, Json, current, newest
from tomas_router.planner.reserve import copy_of
from tomas_router.planner.static import AnyPlanner
from tomas_router.runtime.ledger import BookingTerms, Ledger
from tomas_router.runtime.ledger_errors import LedgerBusyError, LedgerFileError
from tomas_router.schema.plan import PlanStep, ToolPlan
from tomas_router.schema.profiling import ProfilingTable, ResourceConfig
from tomas_router.schema.registry import ToolRegistry

log = logging.getLogger("tomas_router")

Narrow = Literal["off", "per_thread", "per_turn"]
OnUnplanned = Literal["block", "warn", "allow"]
OnFailure = Literal["all", "none"] | Callable[[ModelRequest, Exception], Sequence[str]]
REFUSED = "tomas_router_refused"
MAX_REFUSALS = 2
KEPT_CALLS = 1_000
POLL_S = 0.01


class ToolRouterAgentState(AgentState[Any]):
    """An agent's state with the plan of the turn; plain JSON."""

    tool_plan: NotRequired[Annotated[Json | None, newest]]  # type: ignore[valid-type]  # langchain is not typed here
    tool_router: NotRequired[Annotated[Json | None, newest]]  # type: ignore[valid-type]
    """``turn``: whose message was planned; ``offered``: the tools that the thread has been shown."""


@dataclass(frozen=True)
class CallRecord:
    """One call: what was expected, and what it was."""

    tool: str
    status: Literal["done", "failed", "refused", "no_room"]
    planned: bool
    config: ResourceConfig | None
    degraded: bool
    waited_ms: int
    expected_ms: float | None
    took_ms: int | None


class ToolRouterMiddleware(AgentMiddleware[Any, Any, Any]):
    """Plans in ``wrap_model_call``, admits in ``wrap_tool_call``; synchronous and asynchronous agents alike."""

    state_schema = ToolRouterAgentState

    def __init__(
        self,
        planner: AnyPlanner | None,
        registry: ToolRegistry | None = None,
        *,
        profiling: ProfilingTable | None = None,
        ledger: Ledger | None = None,
        resources: AnyTimeline | None = None,
        tenant: str = "",
        narrow: Narrow = "off",
        max_tools: int | None = None,
        always_include: Sequence[str] = (),
        on_insufficient: OnInsufficient = "queue",
        max_wait_s: float = 60.0,
        on_unplanned_call: OnUnplanned = "warn",
        on_failure: OnFailure = "all",
        on_ledger_failure: Literal["refuse", "run"] = "refuse",
        fast_path: float | None = None,
        shadow: bool = False,
        lease_ms: int = 15_000,
    ) -> None:
        """Every default is safe for an agent that exists: it plans and admits, shows all tools and blocks none.

        Args:
            planner: None admits calls and plans nothing.
            registry: what the planner reads; by default made from the agent's own tools at the first call.
            profiling: measured profiles; by default those that the tools carry (``@profiled``).
            ledger: where calls are booked; shared with other agents and processes (docs/ledger.md).
            resources: the curve, or where it comes from; what the machine offers beside what the ledger books.
            tenant: whose quota counts.
            narrow: which tools the model is shown. ``off``: all, so that prompt caches hold; ``per_turn``: those of the
                plan with their alternatives; ``per_thread``: the same, but what was shown once in a thread stays. Tools
                that the thread has used, and ``always_include``, always stay. The order is always that of the agent.
            max_tools: at most so many from the plan and its alternatives; the plan's own always stay.
            always_include: names that are always shown, and never blocked.
            on_insufficient: ``queue``, ``degrade`` or ``fail``, see ``Admission``.
            max_wait_s: how long a call waits for room.
            on_unplanned_call: ``block`` answers with the planned tools, ``warn`` logs, ``allow`` says nothing. A call
                that runs is admitted in any case. After two blocked calls in a turn ``on_failure`` decides.
            on_failure: when planning fails: ``all`` tools, ``none`` but ``always_include``, or a function of the
                request and the error that gives names.
            on_ledger_failure: ``refuse`` the call (nothing may over-commit), or ``run`` it unbooked.
            fast_path: skip the model for the first call of a turn when the plan is one step with at least this
                confidence, whose tool has no required argument. None: never.
            shadow: plan and record, but change nothing.
            lease_ms: how long a booking outlives this process.

        Raises:
            ValueError: an option is none of its choices, or a ledger has no ``resources``.
        """
        super().__init__()
        _require(narrow, ("off", "per_thread", "per_turn"), "narrow")
        _require(on_unplanned_call, ("block", "warn", "allow"), "on_unplanned_call")
        if not callable(on_failure):
            _require(on_failure, ("all", "none"), "on_failure")
        _require(on_ledger_failure, ("refuse", "run"), "on_ledger_failure")
        self.planner, self.registry = planner, registry
        self.narrow, self.max_tools, self.always_include = narrow, max_tools, tuple(always_include)
        self.on_unplanned_call, self.on_failure, self.shadow = on_unplanned_call, on_failure, shadow
        self.on_ledger_failure, self.fast_path = on_ledger_failure, fast_path
        self.resources = resources
        self.admission = Admission(
            ledger,
            resources,
            profiling,
            on_insufficient=on_insufficient,
            max_wait_s=max_wait_s,
            tenant=tenant,
            lease_ms=lease_ms,
        )
        self._read: tuple[tuple[str, ...], ToolRegistry] | None = None
        self._calls: deque[CallRecord] = deque(maxlen=KEPT_CALLS)
        self._siblings = _Siblings()

    # --- planning --------------------------------------------------------------------------------------------

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Plans the turn unless it is planned, and calls the model with the tools that the plan leaves."""
        if self.planner is None:
            return handler(request)
        turn = self._turn(request)
        return self._answered(turn, self._fast(turn) or handler(turn.request))

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """``wrap_model_call``; the planner runs in a thread."""
        if self.planner is None:
            return await handler(request)
        turn = await asyncio.to_thread(self._turn, request)
        return self._answered(turn, self._fast(turn) or await handler(turn.request))

    def _turn(self, request: ModelRequest[Any]) -> _Turn:
        asked = next((m for m in reversed(request.messages) if isinstance(m, HumanMessage)), None)
        known = request.state.get("tool_router") or {}
        if asked is None or not asked.text.strip():
            return _Turn(request, None, {}, fresh=False)
        name = asked.id or f"{sum(isinstance(m, HumanMessage) for m in request.messages)}"
        fresh = known.get("turn") != name
        stored = request.state.get("tool_plan")
        error: Exception | None = None
        plan = None if fresh or not stored else ToolPlan.model_validate(stored)
        if fresh:
            try:
                plan = self._plan(asked.text, request.tools)
            except Exception as failed:  # noqa: BLE001 - an agent goes on without a plan, as on_failure says
                error = failed
                log.warning("planning failed: %s: %s", type(failed).__name__, failed)
        names = [t.name for t in request.tools if isinstance(t, BaseTool)]
        offered = self._offered(request, plan, names, known, error)
        update = {"turn": name, "offered": sorted({*known.get("offered", ()), *offered})}
        if offered != names and not self.shadow:
            keep = set(offered)
            left = [t for t in request.tools if not isinstance(t, BaseTool) or t.name in keep]
            request = request.override(tools=left)
        return _Turn(request, plan, update, fresh)

    def _plan(self, text: str, tools: Sequence[Any]) -> ToolPlan:
        assert self.planner is not None
        registry, profiling = self._known(tools)
        ledger = self.admission.ledger
        plan = self.planner.plan(
            text,
            registry,
            profiling,
            current(self.resources),
            ledger=None if ledger is None else copy_of(ledger),
            terms=BookingTerms(tenant=self.admission.tenant),
        )
        return plan.model_copy(update={"booking_id": None})

    def _known(self, tools: Sequence[Any]) -> tuple[ToolRegistry, ProfilingTable | None]:
        """The registry given, else that of the agent's tools; read anew only when the tools change."""
        own = [t for t in tools if isinstance(t, BaseTool)]
        if self.admission.profiling is None:
            carried = ProfilingTable.from_langchain(own)
            self.admission.profiling = carried if len(carried) else None
        if self.registry is not None:
            return self.registry, self.admission.profiling
        key = tuple(f"{tool.name}\n{tool.description}" for tool in own)
        if self._read is None or self._read[0] != key:
            self._read = key, ToolRegistry.from_langchain(own)
        return self._read[1], self.admission.profiling

    def _offered(
        self, request: ModelRequest[Any], plan: ToolPlan | None, names: list[str], known: Json, error: Exception | None
    ) -> list[str]:
        """Names that the model is shown, in the agent's order."""
        kept = {*self.always_include, *_used(request.messages)}
        if error is not None:
            if self.on_failure == "all":
                return names
            chosen = () if self.on_failure == "none" else self.on_failure(request, error)
            return [name for name in names if name in {*chosen, *kept}]
        if self.narrow == "off" or plan is None or plan.reason == "no_match":
            return names
        if self.narrow == "per_thread":
            kept |= set(known.get("offered", ()))
        return [name for name in names if name in {*_planned_names(plan, self.max_tools), *kept}]

    def _fast(self, turn: _Turn) -> ModelResponse[Any] | None:
        """A call without asking the model."""
        plan = turn.plan
        if self.fast_path is None or self.shadow or plan is None or not turn.fresh or plan.status != "planned":
            return None
        if len(plan.steps) != 1 or plan.steps[0].confidence < self.fast_path:
            return None
        tool = next((t for t in turn.request.tools if getattr(t, "name", "") == plan.steps[0].tool_name), None)
        required = ToolRegistry.from_langchain([tool]).tools[0].parameters if tool is not None else {"required": ["?"]}
        args = dict(plan.steps[0].args or {})
        if set((required or {}).get("required") or ()) - args.keys():  # type: ignore[arg-type]
            return None
        call = {"name": plan.steps[0].tool_name, "args": args, "id": f"call_{uuid.uuid4().hex}"}
        return ModelResponse(result=[AIMessage("", tool_calls=[call])])

    def _answered(self, turn: _Turn, response: ModelResponse[Any]) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        if turn.plan is None and not turn.update:
            return response
        if turn.plan is not None and not self.shadow:
            response.result = [_in_order(message, turn.plan) for message in response.result]
        plan = None if turn.plan is None else turn.plan.model_dump(mode="json")
        update = {"tool_plan": plan or {}, "tool_router": turn.update}
        return ExtendedModelResponse(model_response=response, command=Command(update=update))

    # --- calls -----------------------------------------------------------------------------------------------

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Refuses or admits a call, and runs it with what it was given."""
        call = _Call.of(request)
        if (refusal := self._refusal(call)) is not None:
            return refusal
        with self._siblings.running(call):
            self._siblings.wait_for_earlier(call)
            return self._admitted(call, handler, None)

    def _admitted(
        self,
        call: _Call,
        handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]],
        larger_than: ResourceConfig | None,
    ) -> ToolMessage | Command[Any]:
        lease: Lease | None = None
        options = {"thread_id": call.thread_id, "on_event": call.write, "larger_than": larger_than}
        begun = time.monotonic()
        try:
            with self.admission.admit(call.name, call.step, **options) as lease:  # type: ignore[arg-type]
                begun = time.monotonic()
                answer = handler(_with(call.request, lease, None))
            self._note(call, lease, begun, answer)
            return answer
        except InfeasibleError as error:
            return self._no_room(call, error)
        except (LedgerFileError, LedgerBusyError) as error:
            if lease is None and self.on_ledger_failure == "run":
                log.warning("%s runs unbooked: %s", call.name, error)
                return handler(call.request)
            return self._no_room(call, error)
        except MemoryError:
            self._note(call, lease, begun, None)
            if larger_than is not None or lease is None or lease.config is None:
                raise
            return self._admitted(call, handler, lease.config)
        except Exception:
            self._note(call, lease, begun, None)
            raise

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """``wrap_tool_call``, without holding a thread while it waits.

        A cancelled call keeps its booking until its thread has ended.
        """
        call = _Call.of(request)
        if (refusal := self._refusal(call)) is not None:
            return refusal
        with self._siblings.running(call):
            await self._siblings.await_earlier(call)
            return await self._aadmitted(call, handler, None)

    async def _aadmitted(
        self,
        call: _Call,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
        larger_than: ResourceConfig | None,
    ) -> ToolMessage | Command[Any]:
        lease: Lease | None = None
        ended = threading.Event()
        ended.set()
        options = {"thread_id": call.thread_id, "on_event": call.write, "larger_than": larger_than, "until": ended}
        begun = time.monotonic()
        try:
            async with self.admission.aadmit(call.name, call.step, **options) as lease:  # type: ignore[arg-type]
                begun = time.monotonic()
                answer = await handler(_with(call.request, lease, ended))
            self._note(call, lease, begun, answer)
            return answer
        except InfeasibleError as error:
            return self._no_room(call, error)
        except (LedgerFileError, LedgerBusyError) as error:
            if lease is None and self.on_ledger_failure == "run":
                log.warning("%s runs unbooked: %s", call.name, error)
                return await handler(call.request)
            return self._no_room(call, error)
        except MemoryError:
            self._note(call, lease, begun, None)
            if larger_than is not None or lease is None or lease.config is None:
                raise
            return await self._aadmitted(call, handler, lease.config)
        except Exception:
            self._note(call, lease, begun, None)
            raise

    def _refusal(self, call: _Call) -> ToolMessage | None:
        """The answer to a call that the plan does not have and that may not run; None when it may."""
        plan = call.plan
        if self.shadow or plan is None or plan.status != "planned":
            return None
        allowed = {*_planned_names(plan, None), *self.always_include}
        if call.name in allowed or self.on_unplanned_call == "allow":
            return None
        if self.on_unplanned_call == "warn":
            log.warning("%s was called, but the plan has %s", call.name, ", ".join(sorted(allowed)))
            return None
        if call.refusals >= MAX_REFUSALS and self.on_failure == "all":
            return None
        self._calls.append(CallRecord(call.name, "refused", False, None, False, 0, None, None))
        planned = ", ".join(dict.fromkeys(step.tool_name for step in plan.steps))
        text = f"{call.name} is not part of the plan for this request and was not run. Planned: {planned}."
        return call.answer(text, {REFUSED: True})

    def _no_room(self, call: _Call, error: TomasRouterError) -> ToolMessage:
        self._calls.append(CallRecord(call.name, "no_room", call.step is not None, None, False, 0, None, None))
        return call.answer(f"{call.name} was not run: {error}. Try again later, or go on without it.", {})

    def _note(
        self, call: _Call, lease: Lease | None, begun_s: float, answer: ToolMessage | Command[Any] | None
    ) -> None:
        if lease is None:
            return
        failed = answer is None or getattr(answer, "status", "success") == "error"
        took_ms = round((time.monotonic() - begun_s) * 1000)
        record = CallRecord(
            call.name,
            "failed" if failed else "done",
            call.step is not None,
            lease.config,
            lease.degraded,
            lease.waited_ms,
            lease.expected_ms,
            took_ms,
        )
        self._calls.append(record)
        call.write(
            {"type": "tool_finished", "tool": call.name, "status": record.status}
            | {"took_ms": took_ms, "expected_ms": lease.expected_ms}
        )

    def report(self) -> list[dict[str, Any]]:
        """The last 1,000 calls, oldest first: what was expected beside what it was. Plain JSON."""
        return [
            asdict(record) | {"config": None if record.config is None else record.config.model_dump()}
            for record in tuple(self._calls)
        ]


@dataclass(frozen=True)
class _Turn:
    request: ModelRequest[Any]
    plan: ToolPlan | None
    update: Json
    fresh: bool
    """Planned just now."""


@dataclass(frozen=True)
class _Call:
    """A call with what the turn's plan says of it."""

    request: ToolCallRequest
    plan: ToolPlan | None
    step: PlanStep | None
    thread_id: str | None
    refusals: int
    message_id: str
    position: int

    @classmethod
    def of(cls, request: ToolCallRequest) -> _Call:
        state = request.state if isinstance(request.state, dict) else {}
        stored = state.get("tool_plan")
        plan = ToolPlan.model_validate(stored) if stored else None
        messages = state.get("messages") or []
        asking = next((m for m in reversed(messages) if isinstance(m, AIMessage) and _has(m, request)), None)
        calls = asking.tool_calls if asking is not None else [request.tool_call]
        position = next((i for i, c in enumerate(calls) if c["id"] == request.tool_call["id"]), 0)
        earlier = sum(c["name"] == request.tool_call["name"] for c in calls[:position])
        steps = [s for s in (plan.steps if plan else ()) if s.tool_name == request.tool_call["name"]]
        config = getattr(request.runtime, "config", None) or {}
        thread_id = (config.get("configurable") or {}).get("thread_id")
        return cls(
            request=request,
            plan=plan,
            step=steps[min(earlier, len(steps) - 1)] if steps else None,
            thread_id=None if thread_id is None else str(thread_id),
            refusals=_refusals(messages),
            message_id=f"{thread_id}/{asking.id if asking is not None else request.tool_call['id']}",
            position=position,
        )

    @property
    def name(self) -> str:
        return str(self.request.tool_call["name"])

    def write(self, event: dict[str, Any]) -> None:
        """To ``stream_mode="custom"``; outside a graph to nobody."""
        writer = getattr(self.request.runtime, "stream_writer", None)
        if writer is not None:
            writer(event | {"call": self.request.tool_call["id"]})

    def answer(self, text: str, extra: dict[str, Any]) -> ToolMessage:
        call_id = self.request.tool_call["id"]
        return ToolMessage(text, tool_call_id=call_id, name=self.name, status="error", additional_kwargs=extra)


class _Siblings:
    """Calls of one message wait for those that the plan puts before them, if these have begun.

    One that has not begun is not waited for: in a pool of threads it may never begin while others wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, dict[str, threading.Event]] = {}

    def running(self, call: _Call) -> _Running:
        step = call.step.id if call.step is not None else f"call{call.position}"
        return _Running(self, call.message_id, step)

    def begin(self, message: str, step: str) -> None:
        with self._lock:
            self._begun.setdefault(message, {})[step] = threading.Event()

    def end(self, message: str, step: str) -> None:
        with self._lock:
            steps = self._begun.get(message, {})
            if step in steps:
                steps.pop(step).set()
            if not steps:
                self._begun.pop(message, None)

    def earlier(self, call: _Call) -> list[threading.Event]:
        wanted = call.step.depends_on if call.step is not None else ()
        with self._lock:
            steps = self._begun.get(call.message_id, {})
            return [steps[step] for step in wanted if step in steps]

    def wait_for_earlier(self, call: _Call) -> None:
        for event in self.earlier(call):
            event.wait()

    async def await_earlier(self, call: _Call) -> None:
        for event in self.earlier(call):
            while not event.is_set():
                await asyncio.sleep(POLL_S)


@dataclass(frozen=True)
class _Running:
    siblings: _Siblings
    message: str
    step: str

    def __enter__(self) -> None:
        self.siblings.begin(self.message, self.step)

    def __exit__(self, *error: object) -> None:
        self.siblings.end(self.message, self.step)


def _with(request: ToolCallRequest, lease: Lease, ended: threading.Event | None) -> ToolCallRequest:
    """The call with its resources where the tool wants them, and with an eye on its thread."""
    tool = request.tool
    if tool is None:
        return request
    tool = bind_resources(tool, lease.config)
    function = getattr(tool, "func", None)
    if ended is not None and function is not None and getattr(tool, "coroutine", None) is None:
        tool = tool.model_copy(update={"func": _watched(function, ended)})
    return request.override(tool=tool)


def _watched(function: Callable[..., Any], ended: threading.Event) -> Callable[..., Any]:
    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        ended.clear()
        try:
            return function(*args, **kwargs)
        finally:
            ended.set()

    return run


def _planned_names(plan: ToolPlan, max_tools: int | None) -> list[str]:
    """Those of the steps, then their alternatives by confidence."""
    steps = list(dict.fromkeys(step.tool_name for step in plan.steps))
    others = sorted((a for step in plan.steps for a in step.alternatives), key=lambda a: -a.confidence)
    names = list(dict.fromkeys([*steps, *(a.tool_name for a in others)]))
    return names if max_tools is None else names[: max(max_tools, len(steps))]


def _in_order(message: Any, plan: ToolPlan) -> Any:
    """A message whose calls stand in the order of the plan; calls that are not planned stay behind."""
    calls = getattr(message, "tool_calls", None)
    if not isinstance(message, AIMessage) or not calls or len(calls) < 2:
        return message
    order: dict[str, int] = {}
    for position, step in enumerate(plan.steps):
        order.setdefault(step.tool_name, position)
    ordered = sorted(calls, key=lambda call: order.get(call["name"], len(order)))
    return message if ordered == calls else message.model_copy(update={"tool_calls": ordered})


def _used(messages: Sequence[Any]) -> set[str]:
    return {call["name"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}


def _refusals(messages: Sequence[Any]) -> int:
    """Calls that were refused since a person last spoke."""
    count = 0
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        count += isinstance(message, ToolMessage) and bool(message.additional_kwargs.get(REFUSED))
    return count


def _has(message: AIMessage, request: ToolCallRequest) -> bool:
    return any(call["id"] == request.tool_call["id"] for call in message.tool_calls)


def _require(value: object, choices: Sequence[str], name: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
