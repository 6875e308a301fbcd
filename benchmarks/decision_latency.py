"""How long a decision takes, and how long a new process needs to its first plan.

``python -m benchmarks.decision_latency [--repeats N] [--model DIR] [--tools N] [--json]``. Decisions run in this
process with everything warm, on one thread and on two; a cold start is a new process, with interpreter, imports, model
and registry, measured from outside, first with nothing on disk but the package, then with the shipped tools encoded in
the cache folder; its memory is the most that process held. Where the package with MiniLM's weights is installed, naming
one tool by MiniLM (numpy, tool vectors ready) is timed on the same requests: what a semantic router costs that plans
nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

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
COLD_START = (
    "from tomas_router import Planner; Planner.load({model!r}, cache_dir={cache!r}).plan({text!r}); "
    "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
)
"""Linux; the peak that ``getrusage`` tells is never below what the parent process held."""
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


def cold_starts(model: Path | None, text: str) -> list[tuple[float, float]]:
    """Milliseconds from start to exit of new processes, and the most MiB each held; the first finds no cache."""
    with TemporaryDirectory() as cache:
        code = COLD_START.format(model=str(model) if model else None, cache=cache, text=text)
        found = []
        for _ in range(1 + COLD_STARTS):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
            found.append((1000 * (time.perf_counter() - start), float(done.stdout) / 1024))
    return found


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
    (first_ms, first_mib), *later = cold_starts(model, REQUESTS["short English"])
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "model": first_plan.model,
        "tools": len(registry),
        "decisions": rows,
        "minilm_ms": minilm_ms(registry, repeats),
        "encode_registry_ms": encode_ms,
        "first_start_ms": first_ms,
        "first_start_mib": first_mib,
        "cold_start_ms": statistics.median(ms for ms, _ in later),
        "resident_mib": statistics.median(mib for _, mib in later),
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
    for label, ms, mib in (
        ("tools encoded on disk", result["cold_start_ms"], result["resident_mib"]),
        ("nothing on disk", result["first_start_ms"], result["first_start_mib"]),
    ):
        console.print(f"new process to first plan with the shipped tools, {label}: {ms:.0f} ms, {mib:.0f} MiB")
    console.print(f"{result['tools']} unknown tools encoded and a first plan: {result['encode_registry_ms']:.0f} ms")


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
