"""How long a decision takes, and how long a new process needs to its first plan.

``python -m benchmarks.decision_latency [--repeats N] [--model DIR] [--tools N] [--json]``. Decisions run in this
process with everything warm, on one thread and on two; a cold start is a new process, with interpreter, imports, model
and registry, measured from outside. Where the package with MiniLM's weights is installed, naming one tool by MiniLM
(numpy, tool vectors ready) is timed on the same requests: what a semantic router costs that plans nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tomas_router import Planner, ToolRegistry, shipped
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.evaluation.minilm import installed_minilm
from tomas_router.features.tool_text import tool_text

REQUESTS = {
    "short English": "Transcribe the recording of this meeting and translate it into German.",
    "long English": (
        "We recorded a three-hour board meeting yesterday. Please transcribe it, find out who said what, translate the "
        "passages that are in French, summarise the decisions and open questions in ten bullet points, and send the "
        "summary by e-mail to everybody who took part, with the full transcript attached."
    ),
    "Chinese": "把这段会议录音转成文字, 翻译成英文, 然后总结要点。",
    "no tool": "Thanks, that was very helpful!",
}
THREADS = (1, 2)
COLD_START = "from tomas_router import Planner; Planner.load({model!r}).plan({text!r})"
COLD_STARTS = 3


def tools_for(count: int) -> ToolRegistry:
    """The shipped tools, and as many renamed copies of them as it takes."""
    shipped_tools = ToolRegistry.from_json(shipped.registry_path()).tools
    copies = [
        tool.model_copy(update={"name": f"{tool.name}_{n}", "desc": f"{tool.desc} Variant {n}."})
        for n in range(2, 2 + count // len(shipped_tools))
        for tool in shipped_tools
    ]
    return ToolRegistry([*shipped_tools, *copies][:count])


def times_ms(call: Callable[[], object], repeats: int) -> list[float]:
    """Sorted wall-clock times of ``repeats`` calls after one that warms up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return sorted(times)


def worded(text: str) -> Iterator[str]:
    """The text with another number each time: whoever remembers the last text must read this one all the same."""
    return (f"{text} ({number})" for number in count(100))


def minilm_ms(registry: ToolRegistry, repeats: int) -> dict[str, float]:
    """Median time to name one tool for each request; empty where MiniLM is not installed."""
    encoder = installed_minilm()
    if encoder is None:
        return {}
    tools = encoder.rows([tool_text(tool.name, tool.desc) for tool in registry])
    found = {}
    for name, text in REQUESTS.items():
        fresh = worded(text)
        found[name] = statistics.median(
            times_ms(lambda f=fresh: (tools @ encoder.rows([next(f)])[0]).argmax(), repeats)
        )
    return found


def cold_start_ms(model: Path | None, text: str) -> float:
    """Median over new processes, from start to exit."""
    code = COLD_START.format(model=str(model) if model else None, text=text)
    times = []
    for _ in range(COLD_STARTS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def resident_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(model: Path | None, repeats: int, tool_count: int = 200) -> dict[str, object]:
    """All numbers of one machine."""
    directory = model or shipped.model_dir()
    registry = tools_for(tool_count)
    planners = {n: Planner(OnnxEngine.load(directory, intra_op_num_threads=n)) for n in THREADS}
    start = time.perf_counter()
    first_plan = planners[1].plan(REQUESTS["short English"], registry)
    encode_ms = 1000 * (time.perf_counter() - start)
    rows = {}
    for name, text in REQUESTS.items():
        row: dict[str, float] = {"steps": len(planners[1].plan(text, registry).steps)}
        for n, planner in planners.items():
            fresh = worded(text)
            times = times_ms(lambda p=planner, f=fresh: p.plan(next(f), registry), repeats)
            suffix = "" if n == 1 else f"_{n}_threads"
            row[f"p50_ms{suffix}"] = statistics.median(times)
            row[f"p95_ms{suffix}"] = times[round(0.95 * (len(times) - 1))]
        rows[name] = row
    memory = resident_mib()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "model": first_plan.model,
        "tools": len(registry),
        "decisions": rows,
        "minilm_ms": minilm_ms(registry, repeats),
        "encode_registry_ms": encode_ms,
        "resident_mib": memory,
        "cold_start_ms": cold_start_ms(model, REQUESTS["short English"]),
    }


def show(result: dict[str, object]) -> None:
    """Prints a table."""
    decisions, minilm = result["decisions"], result["minilm_ms"]
    assert isinstance(decisions, dict)
    assert isinstance(minilm, dict)
    heads = ["request", "steps", *(f"{q}, {n} thread{'s' * (n > 1)}" for n in THREADS for q in ("p50 ms", "p95 ms"))]
    table = Table(*heads, "MiniLM names one, p50 ms", title=f"{result['machine']}; {result['tools']} tools")
    for name, row in decisions.items():
        cells = [f"{value:.1f}" for key, value in row.items() if key != "steps"]
        table.add_row(name, str(row["steps"]), *cells, f"{minilm[name]:.1f}" if name in minilm else "-")
    console = Console()
    console.print(table)
    console.print(
        f"new process to first plan with the shipped tools: {result['cold_start_ms']:.0f} ms; resident "
        f"{result['resident_mib']:.0f} MiB; first plan with {result['tools']} unknown tools: "
        f"{result['encode_registry_ms']:.0f} ms"
    )


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--repeats", type=int, default=50)
    p.add_argument("--model", type=Path, help="an exported model (default: the packaged one)")
    p.add_argument("--tools", type=int, default=200)
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    result = measure(args.model, args.repeats, args.tools)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
