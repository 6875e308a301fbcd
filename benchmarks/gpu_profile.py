"""Measures examples/gpu_tools.py over sizes and shares of a GPU's SMs; then fits the law of latency.

    python -m benchmarks.gpu_profile --raw raw.jsonl                  # on the GPU machine: torch and numpy are enough
    python -m benchmarks.gpu_profile --fit raw.jsonl --out data/profiling/measured_gpu.csv \\
        --registry-out data/tool_registry/measured_gpu.json           # anywhere: table, metadata, law
    python -m benchmarks.gpu_profile --cpu --tiny --shares 100 --raw raw.jsonl    # does it run at all

A share is held by CUDA MPS in a fresh process, or, where MPS does not start or does not hold, by green contexts.
Whether it is in force is measured: the rate of a matrix product must fall with the share. Every result is written at
once, and the same command continues where an interrupted one ended.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu_measure import NOT_IN_FORCE, measure_share
from benchmarks.gpu_raw import SIZES, append, key_of, load_tools, read_raw
from benchmarks.gpu_share import MpsServer, MpsUnavailableError

SHARES = (100, 10, 20, 30, 50, 75)
"""Percent; the first two say whether a share is in force."""
SILENCE_S = 75.0
"""A measuring process that writes nothing for so long is ended."""
MAX_STARTS = 3
"""Of the process of one share: what crashes is noted, left out, and the rest goes on."""


def main() -> int:
    args = _arguments()
    if args.fit:
        from benchmarks.gpu_profile_table import write_and_print

        return write_and_print(args.fit, args.out, args.registry_out)
    if args.measure:
        return measure_share(args)
    return measure_all(args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, default=Path("gpu_raw.jsonl"), help="results, a line each")
    parser.add_argument("--shares", type=float, nargs="+", default=list(SHARES), metavar="PERCENT")
    parser.add_argument("--mode", choices=("auto", "mps", "green"), default="auto", help="how shares are held")
    parser.add_argument("--budget-s", type=float, default=225, help="for everything; what does not fit is left out")
    parser.add_argument("--only", nargs="+", metavar="TOOL", help="measure only these")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, where no share is held")
    parser.add_argument("--tiny", action="store_true", help="very small networks, to try the script")
    parser.add_argument("--fit", type=Path, metavar="RAW", help="write table, metadata and registry; print the law")
    parser.add_argument("--out", type=Path, default=Path("measured_gpu.csv"))
    parser.add_argument("--registry-out", type=Path, default=Path("measured_gpu.json"))
    hidden = argparse.SUPPRESS
    parser.add_argument("--measure", action="store_true", help=hidden)
    parser.add_argument("--held-by", choices=("mps", "green", "nothing"), default="nothing", help=hidden)
    parser.add_argument("--until", type=float, help=hidden)
    parser.add_argument("--processes-left", type=int, default=0, help=hidden)
    parser.add_argument("--used-before", type=int, default=0, help=hidden)
    return parser.parse_args()


def measure_all(args: argparse.Namespace) -> int:
    """Measures every share; 0 if all of it was measured, 4 if something is missing."""
    until = time.time() + args.budget_s
    before = _held_by_before(args.raw)
    ways = ["nothing"] if args.cpu else [before] if before else {"auto": ["mps", "green"]}.get(args.mode, [args.mode])
    used_before = 0 if args.cpu else _used_bytes()
    for way in ways:
        if way == "mps":
            code = _all_by_mps(args, until, used_before)
        else:
            code = _run_process(args, args.shares, way, {}, until, used_before, 0)
        if code != NOT_IN_FORCE:
            return _summary(args)
        print(f"shares held by {way} are not in force", flush=True)
        if before is None:
            args.raw.unlink(missing_ok=True)  # what was measured without a share in force is not used
    return 1


def _all_by_mps(args: argparse.Namespace, until: float, used_before: int) -> int:
    server = MpsServer()
    code = 0
    try:
        server.start()
        print("MPS: the daemon runs and a client got a context", flush=True)
        for position, share in enumerate(args.shares):
            left = len(args.shares) - position - 1
            code = _run_process(args, [share], "mps", server.client(share), until, used_before, left)
            if code not in (0, NOT_IN_FORCE) and not _good_cells(args.raw):
                print(f"MPS: the measuring process ends with code {code}", flush=True)
                return NOT_IN_FORCE
            if code == NOT_IN_FORCE or time.time() > until:
                break
    except MpsUnavailableError as error:
        print(f"MPS: {error}", flush=True)
        return NOT_IN_FORCE
    finally:
        server.stop()
    return code


def _run_process(
    args: argparse.Namespace,
    shares: list[float],
    held_by: str,
    environment: dict[str, str],
    until: float,
    used_before: int,
    processes_left: int,
) -> int:
    """Measures these shares in a fresh process, and in another one after a crash."""
    command = [sys.executable, "-m", "benchmarks.gpu_profile", "--measure", "--raw", str(args.raw)]
    command += ["--shares", *(f"{share:g}" for share in shares), "--held-by", held_by, "--until", str(until)]
    command += ["--used-before", str(used_before), "--processes-left", str(processes_left)]
    command += ["--cpu"] * args.cpu + ["--tiny"] * args.tiny + (["--only", *args.only] if args.only else [])
    code = 0
    for _ in range(MAX_STARTS):
        process = subprocess.Popen(command, env=os.environ | environment)
        code = _wait(process, args.raw, until)
        if code in (0, NOT_IN_FORCE) or time.time() > until:
            return code
        _note_crash(args.raw, code)
    return code


def _wait(process: subprocess.Popen[bytes], raw: Path, until: float) -> int:
    seen, since = -1, time.time()
    while process.poll() is None:
        size = raw.stat().st_size if raw.exists() else 0
        if size != seen:
            seen, since = size, time.time()
        if time.time() - since > SILENCE_S or time.time() > until + 30:
            print(f"process {process.pid} wrote nothing for {time.time() - since:.0f} s and is ended", flush=True)
            process.kill()
            process.wait()
            return -9
        time.sleep(0.2)
    return process.returncode


def _note_crash(raw: Path, code: int) -> None:
    """The cell that had begun and has no result will not be tried again."""
    lines = read_raw(raw)
    begun = [line for line in lines if line["kind"] == "begin"]
    if begun and key_of(begun[-1]) not in {key_of(line) for line in lines if line["kind"] == "cell"}:
        cell = {**begun[-1], "kind": "cell", "status": "crashed", "detail": f"exit code {code}", "runs": []}
        append(raw, cell)
        print(f"crashed: {cell['tool']} {cell['input_size']} at {cell['share']:g} %", flush=True)


def _summary(args: argparse.Namespace) -> int:
    good = _good_cells(args.raw)
    names = args.only or [workload.name for workload in load_tools().WORKLOADS]
    wanted = len(names) * len(SIZES) * len(args.shares)
    print(f"{good} of {wanted} cells measured; raw results in {args.raw}", flush=True)
    return 0 if good >= wanted else 4


def _good_cells(raw: Path) -> int:
    return len({key_of(line) for line in read_raw(raw) if line["kind"] == "cell" and line["status"] == "ok"})


def _held_by_before(raw: Path) -> str | None:
    """How shares were held in what is already there: one file has one way."""
    ways = [line["held_by"] for line in read_raw(raw) if line["kind"] == "machine"]
    return ways[-1] if ways else None


def _used_bytes() -> int:
    """GPU memory in use by others, so that the context's own can be told; 0 where it cannot be asked."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", "0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
        return int(float(answer.split()[0]) * 2**20)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
