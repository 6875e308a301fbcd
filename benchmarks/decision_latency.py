"""How long a decision takes, and how long a new process needs to its first plan.

``python -m benchmarks.decision_latency [--repeats N] [--model DIR] [--json]``. Decisions run in this process with
everything warm; a cold start is a new process, with interpreter, imports, model and registry, measured from outside.
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
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tomas_router import Planner, ToolRegistry, shipped

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
COLD_START = "from tomas_router import Planner; Planner.load({model!r}).plan({text!r})"
COLD_STARTS = 3


def decisions_ms(planner: Planner, text: str, repeats: int) -> list[float]:
    """Wall-clock times of ``repeats`` warm decisions."""
    planner.plan(text)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        planner.plan(text)
        times.append(1000 * (time.perf_counter() - start))
    return times


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


def measure(model: Path | None, repeats: int) -> dict[str, object]:
    """All numbers of one machine."""
    planner = Planner.load(model)
    rows = {}
    for name, text in REQUESTS.items():
        times = sorted(decisions_ms(planner, text, repeats))
        steps = len(planner.plan(text).steps)
        p95 = times[round(0.95 * (len(times) - 1))]
        rows[name] = {"steps": steps, "p50_ms": statistics.median(times), "p95_ms": p95}
    memory = resident_mib()
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "tools": len(ToolRegistry.from_json(shipped.registry_path())),
        "decisions": rows,
        "resident_mib": memory,
        "cold_start_ms": cold_start_ms(model, REQUESTS["short English"]),
    }


def show(result: dict[str, object]) -> None:
    """Prints a table."""
    table = Table("request", "steps", "p50 ms", "p95 ms", title=f"{result['machine']}; {result['tools']} tools")
    decisions = result["decisions"]
    assert isinstance(decisions, dict)
    for name, row in decisions.items():
        table.add_row(name, str(row["steps"]), f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"new process to first plan: {result['cold_start_ms']:.0f} ms; resident {result['resident_mib']:.0f} MiB"
    )


def main() -> None:
    """Command line."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--repeats", type=int, default=50)
    p.add_argument("--model", type=Path, help="an exported model (default: the packaged one)")
    p.add_argument("--json", action="store_true")
    args = p.parse_args()
    result = measure(args.model, args.repeats)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
