"""How time and memory grow with the registry, on one thread and two, beside other routers in the same run.

    python -m benchmarks.cpu_scaling [--sizes 10 200 ...] [--threads 1 2] [--repeats N] [--model DIR] [--out FOLDER]

Every cell is a process of its own, so that memory and threads are its own too. Tools are encoded before and read from
disk; every request differs from the one before in a number, so that nothing about it can be remembered. A cold start is
measured from outside: from the start of a new process to its first plan. Beside ours: a semantic router (the package
``semantic-router`` with all-MiniLM-L6-v2, run in torch and in numpy) and BM25, which name one tool each. Writes a dated
Markdown page, JSON and a plot. Measure on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.decision_latency import tools_for
from benchmarks.growth_plot import growth_plot
from benchmarks.machine import machine, resident_mib
from benchmarks.routers import BM25, OURS, Request, available, build, instruction_of, remember_minilm
from tomas_router import Planner, shipped
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.schema.manifest import read_manifest

SIZES = (10, 100, 200, 1_000, 10_000)
THREADS = (1, 2)
COLD_STARTS = 5
WARM_UP, MOST_REPEATS = 3, 200
TARGET_TOOLS, MOST_TOOLS = 200, 10_000
RESULTS = Path(__file__).parent / "results"
BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

SHORT = "Transcribe recording {n} of the meeting, then translate it."
LONG = (
    "We recorded a three-hour board meeting yesterday, file {n}. Please transcribe it, find out who said what, then "
    "translate the passages that are in French, and send a short summary of the decisions and of the open questions "
    "by e-mail to everybody who took part in it."
)
REQUESTS: dict[str, Callable[[int], Request]] = {
    "one step": lambda n: {"instruction": SHORT.format(n=n), "num_steps": 1},
    "short English": lambda n: SHORT.format(n=n),
    "long English": lambda n: LONG.format(n=n),
    "Chinese": lambda n: f"把第{n}段会议录音转成文字, 翻译成英文, 然后总结要点。",
}
COLD_START = """
from tomas_router import Planner, ToolRegistry
planner = Planner.load({model!r}, cache_dir={cache!r})
planner.plan({text!r}, ToolRegistry.from_json({registry!r}))
print("planned", flush=True)
"""


@dataclass(frozen=True)
class Cell:
    """One router at one size on so many threads."""

    router: str
    tools: int
    threads: int
    p50_ms: dict[str, float]
    p95_ms: dict[str, float]
    steps: dict[str, float]  # mean number of planned steps; 1 for who names one tool
    resident_mib: float


@dataclass
class Result:
    """Everything of one run."""

    date: str
    machine: dict[str, str]
    model: str
    tokens: dict[str, int]  # of each request, by our tokenizer
    repeats: int
    cells: list[Cell] = field(default_factory=list)
    encode_s: dict[int, float] = field(default_factory=dict)  # tools -> first encoding by ours, one thread
    cold_start_ms: dict[int, float] = field(default_factory=dict)  # tools -> median

    def cell(self, router: str, tools: int, threads: int) -> Cell | None:
        """The cell, if it was measured."""
        wanted = (router, tools, threads)
        return next((c for c in self.cells if (c.router, c.tools, c.threads) == wanted), None)


# ---- in a process of its own ----------------------------------------------------------------------------------------


def measure_cell(router: str, tools: int, threads: int, repeats: int, cache: Path, model: Path) -> Cell:
    """Builds the router in this process and times every request."""
    ask = build(router, tools_for(tools), cache, model, threads)
    numbers = count(100)  # three digits, and never one twice: whoever remembers texts has not seen this one
    times: dict[str, list[float]] = {}
    steps: dict[str, float] = {}
    for name, request in REQUESTS.items():
        for _ in range(WARM_UP):
            ask(request(next(numbers)))
        times[name], counted = [], []
        for _ in range(repeats):
            wording = request(next(numbers))
            start = time.perf_counter()
            found = ask(wording)
            times[name].append(1000 * (time.perf_counter() - start))
            counted.append(found)
        steps[name] = statistics.mean(counted)
    return Cell(
        router,
        tools,
        threads,
        {name: statistics.median(values) for name, values in times.items()},
        {name: sorted(values)[round(0.95 * (len(values) - 1))] for name, values in times.items()},
        steps,
        resident_mib(),
    )


def encode(tools: int, cache: Path, model: Path) -> float:
    """Seconds of the first encoding by ours, on one thread; leaves it in ``cache``."""
    registry, planner = tools_for(tools), Planner.load(model, cache_dir=cache)
    start = time.perf_counter()
    planner.encode(registry)
    return time.perf_counter() - start


def _worker(order: dict[str, Any]) -> Any:
    places = {name: Path(order.pop(name)) for name in ("cache", "model")}
    task = order.pop("task")
    if task == "minilm":
        remember_minilm(tools_for(order["tools"]), places["cache"])
        return None
    return encode(**order, **places) if task == "encode" else asdict(measure_cell(**order, **places))


def _in_a_process(task: str, blas_threads: int, **order: Any) -> Any:
    environment = {**os.environ, **dict.fromkeys(BLAS, str(blas_threads)), "TOKENIZERS_PARALLELISM": "false"}
    text = json.dumps({"task": task, **order}, default=str)
    command = [sys.executable, "-m", "benchmarks.cpu_scaling", "--worker", text]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# ---- the whole run --------------------------------------------------------------------------------------------------


def measure(model: Path, sizes: list[int], threads: list[int], repeats: int, routers: list[str], say: Any) -> Result:
    """All cells, one after the other."""
    manifest = read_manifest(model)
    tokenizer = TextTokenizer.load(model / manifest.tokenizer)
    result = Result(
        date.today().isoformat(),
        machine(),
        f"{manifest.name}@{manifest.fingerprint[:12]} ({manifest.quantisation})",
        {name: len(tokenizer.encode(instruction_of(request(100)))) for name, request in REQUESTS.items()},
        repeats,
    )
    with tempfile.TemporaryDirectory() as folder:
        if any(router not in (OURS, BM25) for router in routers):
            say(f"MiniLM encodes {max(sizes)} tools")
            _in_a_process("minilm", os.cpu_count() or 1, tools=max(sizes), cache=folder, model=model)
        for tools in sizes:
            cache = Path(folder) / str(tools)  # of its own, or a small registry would be read from a large file
            say(f"{tools} tools: first encoding")
            result.encode_s[tools] = _in_a_process("encode", 1, tools=tools, cache=cache, model=model)
            result.cold_start_ms[tools] = cold_start_ms(model, cache, tools)
            for used in threads:
                for router in routers:
                    say(f"{tools} tools, {used} thread(s): {router}")
                    order = {"router": router, "tools": tools, "threads": used, "repeats": repeats, "model": model}
                    place = cache if router == OURS else folder
                    result.cells.append(Cell(**_in_a_process("cell", used, cache=place, **order)))
    return result


def cold_start_ms(model: Path, cache: Path, tools: int) -> float:
    """Median over new processes: from their start to their first plan, on one thread."""
    registry = cache / "tools.json"
    registry.write_text(json.dumps([tool.model_dump(exclude_none=True) for tool in tools_for(tools)], default=list))
    text = instruction_of(REQUESTS["short English"](100))
    code = COLD_START.format(model=str(model), cache=str(cache), text=text, registry=str(registry))
    environment = {**os.environ, **dict.fromkeys(BLAS, "1")}
    times = []
    for _ in range(COLD_STARTS):
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            line = process.stdout.readline()
            times.append(1000 * (time.perf_counter() - start))
        if line.strip() != "planned":
            raise RuntimeError(f"a new process made no plan; it said {line!r}")
    return statistics.median(times)


# ---- report ---------------------------------------------------------------------------------------------------------


def page(result: Result, plot: str) -> str:
    """Markdown: machine, targets, and a table for each number of threads."""
    lines = [f"# CPU: time and memory over the number of tools, {result.date}", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in result.machine.items())]
    lines += [f"| model | {result.model} |", f"| requests a cell | {result.repeats}, each worded differently |", ""]
    lines += ["```bash", "python -m benchmarks.cpu_scaling", "```", "", *_targets(result)]
    for threads in sorted({cell.threads for cell in result.cells}):
        lines += ["", f"## {threads} thread{'s' * (threads > 1)}, p50 / p95 in ms", ""]
        heads = [f"{name} ({tokens} tokens)" for name, tokens in result.tokens.items()]
        lines += [f"| router | tools | {' | '.join(heads)} | resident, MiB |", f"|---|---|{'---|' * (len(heads) + 1)}"]
        lines += [_row(cell) for cell in result.cells if cell.threads == threads]
    lines += ["", f"![time over the number of tools]({plot})", "", "## Starting", ""]
    lines += ["| tools | first encoding, s | new process to first plan, ms |", "|---|---|---|"]
    for tools, seconds in result.encode_s.items():
        lines.append(f"| {tools:,} | {seconds:.2f} | {result.cold_start_ms[tools]:.0f} |")
    lines += ["", "In brackets: planned steps, mean. The others name one tool and plan nothing."]
    return "\n".join(lines) + "\n"


def _row(cell: Cell) -> str:
    times = [
        f"{p50:.2f} / {cell.p95_ms[name]:.2f}" + (f" ({cell.steps[name]:.1f})" if cell.router == OURS else "")
        for name, p50 in cell.p50_ms.items()
    ]
    return f"| {cell.router} | {cell.tools:,} | {' | '.join(times)} | {cell.resident_mib:.0f} |"


def _targets(result: Result) -> list[str]:
    """What is to be reached, beside what was; only rows that this run can answer."""
    rows: list[tuple[str, str, float]] = []
    for threads in sorted({cell.threads for cell in result.cells}):
        place = f"{TARGET_TOOLS} tools, {threads} thread{'s' * (threads > 1)}"
        ours = result.cell(OURS, TARGET_TOOLS, threads)
        if ours is None:
            continue
        rows.append((f"one step, {place}, p50 in ms", "< 30", ours.p50_ms["one step"]))
        others = [
            c for c in result.cells if (c.tools, c.threads) == (TARGET_TOOLS, threads) and c.router not in (OURS, BM25)
        ]
        for name in ours.p50_ms if others else ():
            fastest = min(cell.p50_ms[name] for cell in others)
            rows.append((f"{name} over the faster semantic router, {place}", "<= 2", ours.p50_ms[name] / fastest))
        most = result.cell(OURS, MOST_TOOLS, threads)
        if most is not None:
            growth = most.p50_ms["one step"] / ours.p50_ms["one step"]
            rows.append(
                (f"growth from {TARGET_TOOLS} to {MOST_TOOLS:,} tools, one step, {threads} thread(s)", "< 1.5", growth)
            )
        rows.append((f"resident memory, {place}, MiB", "< 500", ours.resident_mib))
    if TARGET_TOOLS in result.cold_start_ms:
        rows.append(
            (f"new process to first plan, {TARGET_TOOLS} tools, s", "< 1.5", result.cold_start_ms[TARGET_TOOLS] / 1000)
        )
    lines = ["| target | to reach | measured | |", "|---|---|---|---|"]
    return lines + [f"| {name} | {goal} | {value:.2f} | {_verdict(value, goal)} |" for name, goal, value in rows]


def _verdict(value: float, goal: str) -> str:
    sign, limit = goal.split()
    return "reached" if value < float(limit) or (sign == "<=" and value == float(limit)) else "**missed**"


def save(result: Result, folder: Path) -> Path:
    """Writes page, JSON and plot; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"cpu_scaling_{result.date}"
    fewest = min(cell.threads for cell in result.cells)
    series = {
        router: [
            (cell.tools, cell.p50_ms["one step"])
            for cell in result.cells
            if (cell.router, cell.threads) == (router, fewest)
        ]
        for router in dict.fromkeys(cell.router for cell in result.cells)
    }
    title = f"Median time of a one-step decision over the number of tools, {fewest} thread"
    (folder / f"{stem}.svg").write_text(growth_plot(series, title), encoding="utf-8")
    (folder / f"{stem}.json").write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
    (folder / f"{stem}.md").write_text(page(result, f"{stem}.svg"), encoding="utf-8")
    return folder / f"{stem}.md"


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    p = argparse.ArgumentParser(prog="python -m benchmarks.cpu_scaling", description=__doc__)
    p.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    p.add_argument("--threads", type=int, nargs="+", default=list(THREADS))
    p.add_argument("--repeats", type=int, default=60)
    p.add_argument("--routers", nargs="+", choices=available(), default=available())
    p.add_argument(
        "--model", type=Path, default=shipped.model_dir(), help="an exported model (default: the packaged one)"
    )
    p.add_argument("--out", type=Path, default=RESULTS, help="folder of the result (default: benchmarks/results)")
    p.add_argument("--worker", help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    if args.worker is not None:
        print(json.dumps(_worker(json.loads(args.worker))))
        return
    if not 1 <= args.repeats <= MOST_REPEATS:
        p.error(f"--repeats must lie in 1..{MOST_REPEATS}, got {args.repeats}")
    say = Console(stderr=True).print
    result = measure(args.model, args.sizes, args.threads, args.repeats, args.routers, say)
    path = save(result, args.out)
    print(path.read_text(encoding="utf-8"))
    say(f"wrote {path}, with JSON and plot beside it")


if __name__ == "__main__":
    main()
