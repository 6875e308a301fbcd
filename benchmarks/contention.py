"""Two agents in two processes call six heavy tools at once, on a device whose memory holds three.

    python -m benchmarks.contention
    python -m benchmarks.contention --work-s 4

Every tool is a process of its own that takes real memory and works for a while: half of the time it computes, half of
it waits, as one does that uses a device. The device is a counter behind a file lock which refuses when it is full, as a
GPU refuses an allocation. The agents are LangChain's ``create_agent`` with a chat model that asks for three calls in
one message; only their middleware differs:

* naive: none, so that all calls run at once;
* naive, retrying: LangChain's ``ToolRetryMiddleware``, eight attempts with growing pauses;
* one at a time: a lock around every call, shared by both agents;
* Tomas Router: ``ToolRouterMiddleware`` on one ``SqliteLedger``.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

AGENTS, CALLS_EACH, FITS = 2, 3, 3
TOOL_MIB = 256
DEVICE_MIB = FITS * TOOL_MIB
FULL = 75  # exit code of a tool that the device refused
SLICE_S = 0.02
STRATEGIES = ("naive", "naive, retrying", "one at a time", "Tomas Router")


# --- the device and the tool ---------------------------------------------------------------------------------


@contextmanager
def locked(path: Path) -> Iterator[dict[str, int]]:
    """The device's counters, for one process at a time."""
    with path.open("r+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        counters = json.load(file)
        yield counters
        file.seek(0)
        file.truncate()
        json.dump(counters, file)


def work(device: Path, work_s: float) -> int:
    """What the tool's process does; its exit code."""
    with locked(device) as counters:
        wanted = counters["used"] + TOOL_MIB
        counters["most_wanted"] = max(counters["most_wanted"], wanted)
        if wanted > DEVICE_MIB:
            counters["refused"] += 1
            return FULL
        counters["used"] = wanted
    memory = bytearray(TOOL_MIB * 2**20)
    for page in range(0, len(memory), 4096):
        memory[page] = 1
    done_s = 0.0
    while done_s < work_s:  # counted in computed time, so that a crowded machine makes it longer
        begun = time.process_time()
        while time.process_time() - begun < SLICE_S:
            hashlib.sha256(memory[: 2**16]).digest()
        time.sleep(SLICE_S)
        done_s += 2 * SLICE_S
    with locked(device) as counters:
        counters["used"] -= TOOL_MIB
        counters["finished"] += 1
    return 0


# --- the agents ----------------------------------------------------------------------------------------------


def run_agent(strategy: str, folder: Path, work_s: float, go: Any, expected_ms: float) -> None:
    from langchain.agents import create_agent
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, HumanMessage
    from langchain_core.tools import tool

    class Model(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Model:  # noqa: ARG002
            return self

    @tool
    def segment(picture: str) -> str:
        """Segments a picture on the device."""
        command = [
            sys.executable,
            "-m",
            "benchmarks.contention",
            "--tool",
            str(folder / "device"),
            "--work-s",
            str(work_s),
        ]
        if subprocess.run(command, check=False).returncode != 0:
            raise MemoryError("device out of memory")
        return f"{picture} is segmented"

    calls = [{"name": "segment", "args": {"picture": f"p{n}"}, "id": f"c{n}"} for n in range(CALLS_EACH)]
    model = Model(messages=iter([AIMessage("", tool_calls=calls), AIMessage("done")]))
    agent = create_agent(model, [segment], middleware=_middleware(strategy, folder, segment, expected_ms))
    go.wait()
    with suppress(MemoryError):  # an agent without protection dies of its tool
        agent.invoke({"messages": [HumanMessage("segment all pictures")]})


def _middleware(strategy: str, folder: Path, tool: Any, expected_ms: float) -> list[Any]:
    from langchain.agents.middleware import ToolRetryMiddleware, wrap_tool_call

    from tomas_router import SystemTimeline
    from tomas_router.langgraph import ToolRouterMiddleware, profiled
    from tomas_router.runtime.sqlite_ledger import SqliteLedger

    if strategy == "naive, retrying":
        return [ToolRetryMiddleware(max_retries=8, retry_on=(MemoryError,), initial_delay=0.5, jitter=True)]
    if strategy == "one at a time":

        @wrap_tool_call
        def alone(request: Any, handler: Callable[[Any], Any]) -> Any:
            with (folder / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                return handler(request)

        return [alone]
    if strategy == "Tomas Router":
        size = TOOL_MIB / 1024
        row = {"input_size": "medium", "cpu_core": 0.5, "cpu_mem_gb": size, "gpu_sm": 0, "gpu_mem_gb": size}
        profiled([row | {"latency_ms": expected_ms}])(tool)
        machine = SystemTimeline.from_rows([(0, 2, 8, 100, DEVICE_MIB / 1024)], tail="hold")
        from tomas_router import ProfilingTable

        table = ProfilingTable.from_langchain([tool])
        ledger = SqliteLedger(folder / "machine.ledger")
        return [ToolRouterMiddleware(None, profiling=table, ledger=ledger, resources=machine, max_wait_s=600)]
    return []


# --- the race ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of six calls."""

    finished: int
    refused: int
    most_wanted_mib: int
    makespan_s: float


def race(strategy: str, work_s: float) -> Outcome:
    """Both agents, once."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zero = {"used": 0, "most_wanted": 0, "refused": 0, "finished": 0}
        (folder / "device").write_text(json.dumps(zero), encoding="utf-8")
        go = context.Barrier(AGENTS + 1)
        target = partial(run_agent, strategy, folder, work_s, go, work_s * 1500)
        agents = [context.Process(target=target) for _ in range(AGENTS)]
        for agent in agents:
            agent.start()
        go.wait()
        begun = time.monotonic()
        for agent in agents:
            agent.join()
        makespan_s = time.monotonic() - begun
        counters = json.loads((folder / "device").read_text(encoding="utf-8"))
    return Outcome(counters["finished"], counters["refused"], counters["most_wanted"], makespan_s)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--work-s", type=float, default=3.0, help="seconds that a tool takes alone")
    parser.add_argument("--tool", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.tool is not None:
        return work(args.tool, args.work_s)
    console = Console()
    calls = AGENTS * CALLS_EACH
    table = Table(title=f"{AGENTS} agents, {calls} calls of {args.work_s:g} s, a device that holds {FITS}")
    for column in (
        "strategy",
        "calls done",
        "refused by the device",
        "most wanted at once",
        "makespan",
        "beside one at a time",
    ):
        table.add_column(column, justify="left" if column == "strategy" else "right")
    outcomes = {}
    with console.status("") as status:
        for strategy in STRATEGIES:
            status.update(strategy)
            outcomes[strategy] = race(strategy, args.work_s)
    serial_s = outcomes["one at a time"].makespan_s
    for strategy, o in outcomes.items():
        wanted = f"{o.most_wanted_mib} of {DEVICE_MIB} MiB"
        ratio = f"{o.makespan_s / serial_s:.2f}" if o.finished == calls else "-"
        table.add_row(strategy, f"{o.finished} of {calls}", str(o.refused), wanted, f"{o.makespan_s:.1f} s", ratio)
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
