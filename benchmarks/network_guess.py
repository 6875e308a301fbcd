"""What the packaged network predicts for a tool whose profile rows were taken away."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from tomas_router.datasets.rows import Row
from tomas_router.planner import Planner
from tomas_router.planner.engine import CurveWindow, ToolEncodings
from tomas_router.planner.retrieval import shortlist
from tomas_router.runtime.resource_predictor import ResourcePredictor
from tomas_router.schema.profiling import SIZES, InputSize, ProfilingTable
from tomas_router.schema.registry import ToolRegistry, ToolSpec

REQUESTS_A_SIZE = 3
SIZE_WORDS = {"small": "The input is small.", "medium": "The input is of average size.", "large": "The input is huge."}
Requests = Mapping[tuple[str, InputSize], Sequence[str]]
Guesses = dict[tuple[str, InputSize], NDArray[np.float64]]


def requests_of(rows: Sequence[Row], registry: ToolRegistry) -> Requests:
    """Requests of one step by tool and size; those for a group are requests for each of its tools."""
    found: dict[tuple[str, InputSize], list[str]] = defaultdict(list)
    for row in rows:
        if len(row.steps) != 1 or row.steps[0].input_size is None:
            continue
        step = row.steps[0]
        for tool in registry.tools:
            if tool.name == step.tool or (step.group is not None and tool.group == step.group):
                found[tool.name, step.input_size].append(row.instruction)  # type: ignore[index]
    return {key: texts[:REQUESTS_A_SIZE] for key, texts in found.items()}


def network_guesses(planner: Planner, registry: ToolRegistry, profiling: ProfilingTable, requests: Requests) -> Guesses:
    """(5,) for every profiled tool and size: cpu_core, cpu_mem_gb, gpu_sm, gpu_mem_gb, latency_ms.

    The tool is encoded without rows, all others with theirs. Over several requests the mean of the logarithms is taken;
    a tool without requests is asked for in its own words and those of the size.
    """
    engine = planner.engine
    with_rows = engine.encode_tools(engine.prepare_tools(registry.tools, profiling))
    without = engine.encode_tools(engine.prepare_tools(registry.tools, None))
    cut = ResourcePredictor().window(planner.latency.t_inf_ms())
    window = CurveWindow(cut.series_GT4, cut.log_horizon)
    guesses: Guesses = {}
    for tool in profiling.tools:
        index = registry.index(tool)
        tools = _with_one_of(with_rows, without, index)
        for size in SIZES:
            if not profiling.rows(tool, size):
                continue
            texts = requests.get((tool, size)) or [_in_own_words(registry.tools[index], size)]
            said = [_ask(planner, text, tools, index, window) for text in texts]
            guesses[tool, size] = np.expm1(np.mean(np.log1p(said), axis=0))
    return guesses


def _ask(planner: Planner, text: str, tools: ToolEncodings, index: int, window: CurveWindow) -> NDArray[np.float64]:
    engine = planner.engine
    chosen = shortlist(tools.retrieval_ND, engine.retrieval_vector(text), engine.max_prefix_tools, None)
    if index not in chosen:
        chosen = np.append(chosen[:-1], index)
    opening = engine.open(text, tools, chosen, window, "dataflow")
    return engine.step(opening.state, index).resources.astype(np.float64)


def _in_own_words(tool: ToolSpec, size: InputSize) -> str:
    return f"{tool.desc} {SIZE_WORDS[size]}"


def _with_one_of(all_of: ToolEncodings, one_of: ToolEncodings, index: int) -> ToolEncodings:
    """The first encodings, with tool ``index`` from the second."""
    changed = {}
    for field in fields(all_of):
        values = getattr(all_of, field.name).copy()
        values[index] = getattr(one_of, field.name)[index]
        changed[field.name] = values
    return replace(all_of, **changed)
