"""One decision of the production preset at the exact shape of Qwen2.5-7B, with random weights, on one GPU.

    python -m benchmarks.gpu_7b --out results.json [--stages env,parity,...] [--tiny --cpu]

A decision is 128 new tokens (curve, task, plan tokens) behind the cached prefix of 64 tools, and the heads; p50 from
the text of the request to the logits on the host. Each stage is optional and survives the failure of another; the
results are written after every stage. Random weights cost what trained ones cost. They cannot plan: the planner refuses
them, and the run records that it did.

The weights file holds one layer, which all layers of the graph point to; loaded, every layer has its own copy, so that
reading them costs what it would.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import transformers
from transformers import DynamicCache, Qwen2Config, Qwen2Model

from export.fused_qwen2 import DTYPES, Precision, visible_bias
from export.graphs import max_positions
from export.optimum_artifacts import OptimumJob, bare_panels, write_optimum_artifacts
from export.optimum_backbone import backbone_graph
from export.optimum_graphs import OpenHeadsGraph
from export.weight_source import RandomWeights
from tomas_router import shipped
from tomas_router.config import ModelConfig, load_config
from tomas_router.engines.bound_session import BoundSession, Place
from tomas_router.engines.onnx_engine import import_onnxruntime
from tomas_router.engines.optimum_engine import OptimumEngine
from tomas_router.engines.ort_backbone import DeviceCache, OrtBackbone
from tomas_router.errors import UntrainedModelError
from tomas_router.features.curve import CurveScaler
from tomas_router.features.tokenizer import TextTokenizer
from tomas_router.features.tool_rows import RowScaler
from tomas_router.planner.engine import Calibration, CurveWindow, OpenRequest, ToolEncodings
from tomas_router.planner.planner import Planner
from tomas_router.schema.manifest import Quantisation
from tomas_router.schema.registry import ToolSpec
from tomas_router.training.checkpoint import Checkpoint, Statistics

QWEN_7B = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4, "rope_theta": 1_000_000.0, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip
TINY = QWEN_7B | {
    "vocab_size": 49152, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
SMALL = QWEN_7B | {
    "vocab_size": 49152, "hidden_size": 1792, "intermediate_size": 2048, "num_hidden_layers": 4,
    "num_attention_heads": 14, "num_key_value_heads": 2,
}  # fmt: skip
"""Heads as wide and as few to share keys as those of 7B; small enough for a processor to check."""
NEW_TOKENS, PREFIX, REGISTRY = 128, 64, 200
BATCHES = (1, 8, 64)
ENOUGH_MS = 5000.0
"""A measurement ends after this long, however few its repeats."""
GIB = 2**30


@dataclass
class Run:
    """Settings of this run and what was found so far."""

    config: ModelConfig
    sizes: dict[str, Any]
    device: str
    work: Path
    out: Path | None
    results: dict[str, Any] = field(default_factory=dict)

    @property
    def backbone(self) -> Qwen2Config:
        """Sizes of the timed model."""
        return Qwen2Config(**self.sizes)

    def stage(self, name: str, call: Callable[[], dict[str, Any]]) -> None:
        """Runs a stage, prints and keeps what it found or why it failed."""
        print(f"== {name}", flush=True)
        start = time.perf_counter()
        try:
            found = call()
        except Exception as error:  # noqa: BLE001  # one stage's failure must not cost the others
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"[:2000]}
        found["stage_s"] = round(time.perf_counter() - start, 1)
        self.results[name] = found
        print(json.dumps(found), flush=True)
        if self.out is not None:
            self.out.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        free()


def free() -> None:
    """Gives back what the last stage held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def times_ms(call: Callable[[], object], repeats: int) -> dict[str, float]:
    """p50 and p95 of calls that end with a result on the host, after three that warm up."""
    times: list[float] = []
    while len(times) < repeats + 3 and (len(times) < 4 or sum(times) < ENOUGH_MS):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    kept = sorted(times[3:])
    return {
        "p50_ms": round(statistics.median(kept), 3),
        "p95_ms": round(kept[int(0.95 * (len(kept) - 1))], 3),
        "first_ms": round(times[0], 1),
        "repeats": len(kept),
    }


def gpu_used_gib() -> float | None:
    """Of the whole device, ours and anybody's."""
    if not torch.cuda.is_available():
        return None
    available, total = torch.cuda.mem_get_info()
    return round((total - available) / GIB, 2)


# ---- stages ---------------------------------------------------------------------------------------------------------


def environment(run: Run) -> dict[str, Any]:
    """Versions, device, and what its memory can do."""
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": import_onnxruntime("cpu").__version__,
        "providers": import_onnxruntime("cpu").get_available_providers(),
        "sizes": run.sizes,
    }
    layers = weight_bytes(run.backbone)
    found["layer_weights_gb"] = round(layers / 1e9, 3)
    if run.device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
        found["copy_tb_s"] = round(copy_bandwidth() / 1e12, 3)
        found["floor_ms"] = round(1000 * layers / (found["copy_tb_s"] * 1e12), 3)
    return found


def weight_bytes(config: Qwen2Config) -> int:
    """Of all layers in half precision."""
    d_model, inner = config.hidden_size, config.intermediate_size
    kv = config.num_key_value_heads * d_model // config.num_attention_heads
    return 2 * config.num_hidden_layers * (2 * d_model * d_model + 2 * d_model * kv + 3 * d_model * inner)


def copy_bandwidth() -> float:
    """Bytes read and written a second by a copy from the device to itself."""
    source = torch.empty(2 * GIB, dtype=torch.uint8, device="cuda").random_()
    target = torch.empty_like(source)
    times = []
    for _ in range(8):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        target.copy_(source)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return 2 * source.numel() / statistics.median(times[2:])


def parity(run: Run) -> dict[str, Any]:
    """The same small model on the GPU in each precision and on a processor in float32: logits and choices."""
    sizes = TINY if run.sizes is TINY else SMALL
    found: dict[str, Any] = {}
    reference: list[np.ndarray] | None = None
    for precision, device, graph in (
        ("float32", "cpu", False),
        ("float32", run.device, False),
        ("bfloat16", run.device, False),
        ("bfloat16", run.device, True),
        ("float16", run.device, True),
    ):
        key = f"{precision} on {device}" + (", recorded" if graph else "")
        try:
            folder = run.work / f"parity-{precision}"
            if not folder.exists():
                build_artifacts(run.config, sizes, precision, folder)  # type: ignore[arg-type]
            logits = decisions(OptimumEngine.load(folder, device, buckets=graph))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001  # the other precisions still count
            traceback.print_exc()
            found[key] = {"error": f"{type(error).__name__}: {error}"[:1000]}
            continue
        reference = reference or logits
        found[key] = {
            "relative_error": max(
                float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(logits, reference, strict=True)
            ),
            "same_choices": sum(a.argmax() == b.argmax() for a, b in zip(logits, reference, strict=True)).item(),
            "choices": len(logits),
        }
        print(key, found[key], flush=True)
    return found


def decisions(engine: OptimumEngine) -> list[np.ndarray]:
    """Logits of several requests, alone and in a batch, and of a step behind each."""
    tools = encoded(engine, 40)
    requests = [
        OpenRequest(words(9 + 13 * n), np.arange(3 + 5 * n), window(n, 1 + n % 2), ("dataflow", "order")[n % 2])
        for n in range(6)
    ]
    alone = [engine.open(r.instruction, tools, r.shortlist, r.window, r.links) for r in requests]
    together = engine.open_batch(requests, tools)
    later = engine.step_batch([opening.state for opening in together], list(range(6)))
    again = [engine.step(opening.state, n) for n, opening in enumerate(alone)]
    return [outcome.tool_logits[:-1] for outcome in (*alone, *together, *later, *again)]


def build(run: Run, precision: Precision, level: Quantisation = "none") -> dict[str, Any]:
    """The artifacts as the exporter writes them."""
    folder = artifacts(run, precision, level)
    build_artifacts(run.config, run.sizes, precision, folder, level)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "files_gb": round(sum(file.stat().st_size for file in folder.iterdir()) / 1e9, 3),
        "peak_host_gib": round(peak * 1024 / GIB, 2),
    }


def artifacts(run: Run, precision: Precision, level: Quantisation = "none") -> Path:
    """Where the artifacts of this precision and level are."""
    return run.work / f"{precision}-{level}"


def build_artifacts(
    config: ModelConfig, sizes: dict[str, Any], precision: Precision, folder: Path, level: Quantisation = "none"
) -> None:
    """Random weights through the exporter."""
    torch.manual_seed(0)
    backbone = Qwen2Config(**sizes)
    model = bare_panels(config, backbone)
    tokenizer = shipped.model_dir() / "tokenizer.json"
    fitted = Statistics(
        RowScaler("zscore", (0.0,) * 6, (1.0,) * 6),
        CurveScaler("standard", (0.0,) * 4, (10.0,) * 4),
        Calibration(),
    )
    panels = Checkpoint(model, config, fitted, TextTokenizer.load(tokenizer), tokenizer)
    folder.mkdir(parents=True)
    job = OptimumJob(panels, RandomWeights(backbone), precision, "random", trained=False, quantisation=level)
    write_optimum_artifacts(job, folder, lambda text: print(f"   {text}", flush=True))


def ort(
    run: Run, precision: Precision, level: Quantisation = "none", *, cuda_graph: bool, whole: bool
) -> dict[str, Any]:
    """The engine: one decision, and with ``whole`` also plan steps, text, batches, memory and the refusal."""
    before = gpu_used_gib()
    start = time.perf_counter()
    engine = OptimumEngine.load(artifacts(run, precision, level), run.device, buckets=cuda_graph)  # type: ignore[arg-type]
    found: dict[str, Any] = {"load_s": round(time.perf_counter() - start, 1)}
    start = time.perf_counter()
    tools = encoded(engine, REGISTRY)
    found["encode_registry_s"] = round(time.perf_counter() - start, 2)
    request = decision_request(engine, 0)
    found["decision"] = times_ms(lambda: open_one(engine, request, tools), 30)
    print("   decision", found["decision"], flush=True)
    found["backbone_alone"] = times_ms(backbone_call(engine.backbone, run), 30)
    if whole:
        state = open_one(engine, request, tools).state
        found["plan_step"] = times_ms(lambda: engine.step(state, 3), 30)
        found["text_token"] = times_ms(text_call(engine), 20)
        found["planning_refused"] = refused(engine)
        found["gpu_used_gib_before"], found["gpu_used_gib_batch_1"] = before, gpu_used_gib()
        for batch in BATCHES:
            requests = [decision_request(engine, n) for n in range(batch)]
            timed = times_ms(lambda requests=requests: engine.open_batch(requests, tools), 30 if batch < 32 else 8)
            timed["decisions_per_s"] = round(1000 * batch / timed["p50_ms"], 1)
            found[f"batch_{batch}"] = timed
            print(f"   batch {batch}", timed, flush=True)
        found["gpu_used_gib_all_batches"] = gpu_used_gib()
    return found


def open_one(engine: OptimumEngine, request: OpenRequest, tools: ToolEncodings) -> Any:
    return engine.open(request.instruction, tools, request.shortlist, request.window, request.links)


def backbone_call(backbone: OrtBackbone, run: Run) -> Callable[[], object]:
    """The layers alone: 128 new tokens behind 64."""
    embeds, cache = device_inputs(backbone, run.backbone, batch=1)

    def call() -> None:
        with stream_of(backbone.place):
            hidden, _ = backbone.hidden(embeds, cache)
            hidden[0, -1, 0].item()

    return call


def device_inputs(backbone: OrtBackbone, config: Qwen2Config, batch: int) -> tuple[torch.Tensor, DeviceCache]:
    device, work = backbone.place.device, backbone.work
    width = config.hidden_size // config.num_attention_heads
    sizes = 2 * config.num_hidden_layers, batch, config.num_key_value_heads, PREFIX, width
    with stream_of(backbone.place):
        cache = DeviceCache(
            torch.randn(sizes, device=device).to(work),
            torch.ones(batch, PREFIX, dtype=torch.int64, device=device),
            torch.ones(batch, 1, dtype=torch.int64, device=device),
        )
        return torch.randn(batch, NEW_TOKENS, config.hidden_size, device=device).to(work), cache


def stream_of(place: Place) -> Any:
    return nullcontext() if place.stream is None else torch.cuda.stream(place.stream)


def text_call(engine: OptimumEngine) -> Callable[[], object]:
    """One token of text: one new token behind 256, LM head and argmax."""
    backbone, place = engine.backbone, engine.place
    with stream_of(place):
        _, cache = backbone.hidden(torch.zeros(1, 256, backbone.config.hidden_size, device=place.device),
                                   backbone.empty_cache(1))  # fmt: skip

    def call() -> None:
        with stream_of(place):
            embeds = backbone.embed(torch.ones(1, 1, dtype=torch.int64, device=place.device))
            hidden, _ = backbone.hidden(embeds, cache)
            backbone.logits(hidden[:, -1]).argmax(-1).item()

    return call


def refused(engine: OptimumEngine) -> bool:
    """Whether planning with these weights is refused."""
    try:
        Planner(engine)  # type: ignore[arg-type]
    except UntrainedModelError:
        return True
    return False


def grouped(run: Run) -> dict[str, Any]:
    """The layers with GroupQueryAttention (flash attention, no mask, one request) in place of the standard operator."""
    folder = artifacts(run, "bfloat16")
    stored = {t.name: t for t in onnx.load(str(folder / "backbone.onnx"), load_external_data=False).graph.initializer}
    graph = backbone_graph(run.backbone, "bfloat16", max_positions(run.config), "grouped")
    for tensor in graph.graph.initializer:
        if not tensor.raw_data:
            tensor.CopyFrom(stored[tensor.name])
    path = folder / "backbone_grouped.onnx"
    onnx.save(graph, str(path))
    found = {}
    for recorded in (True, False):
        place = Place.of(run.device)  # type: ignore[arg-type]
        session = BoundSession(path, place, cuda_graph=recorded)
        backbone = OrtBackbone(run.backbone, session, session, lambda session=session: session, buckets=recorded)
        found["recorded" if recorded else "launched"] = times_ms(backbone_call(backbone, run), 30)
        print("  ", found, flush=True)
        del session, backbone
        free()
    return found


def torch_eager(run: Run) -> dict[str, Any]:
    """transformers with SDPA: eager, then the same kernels recorded."""
    config = run.backbone
    config._attn_implementation = "sdpa"
    dtype = DTYPES["bfloat16"] if run.device == "cuda" else torch.float32
    before = gpu_used_gib()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(run.device):
            model = Qwen2Model(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    heads = OpenHeadsGraph(bare_panels(run.config, run.backbone)).eval()
    heads.model.backbone = None  # its weights are on no device
    heads = heads.to(run.device)
    found: dict[str, Any] = {"gpu_used_gib_before": before, "gpu_used_gib": gpu_used_gib()}
    for batch in BATCHES:
        call = torch_call(model, heads, config, batch, dtype, run)
        repeats = 20 if batch < 32 else 5
        found[f"eager_batch_{batch}"] = times_ms(lambda call=call: call().cpu(), repeats)
        print(f"   eager {batch}", found[f"eager_batch_{batch}"], flush=True)
        if run.device == "cuda":
            replay = recorded_call(call)
            found[f"cuda_graph_batch_{batch}"] = times_ms(lambda replay=replay: replay().cpu(), repeats)
            print(f"   recorded {batch}", found[f"cuda_graph_batch_{batch}"], flush=True)
            del replay
        free()
    return found


def torch_call(
    model: Any, heads: Any, config: Qwen2Config, batch: int, dtype: torch.dtype, run: Run
) -> Callable[[], torch.Tensor]:
    """One decision of a batch in transformers: layers, then the same heads."""
    device, width = run.device, config.hidden_size // config.num_attention_heads
    shape = batch, config.num_key_value_heads, PREFIX, width
    prefix = [torch.randn(2, *shape, device=device).to(dtype) for _ in range(config.num_hidden_layers)]
    embeds = torch.randn(batch, NEW_TOKENS, config.hidden_size, device=device).to(dtype)
    positions = torch.arange(1, NEW_TOKENS + 1, device=device).expand(batch, -1)
    mask = torch.ones(batch, PREFIX + NEW_TOKENS, dtype=torch.int64, device=device)
    bias = visible_bias(mask, positions, dtype)
    virtual = run.config.temporal.virtual_tokens
    task_mask = torch.ones(batch, NEW_TOKENS - 2 - virtual, dtype=torch.bool, device=device)
    curve = torch.randn(batch, run.config.temporal.d_temporal, device=device)

    @torch.no_grad()
    def call() -> torch.Tensor:
        cache = DynamicCache()
        for layer, pair in enumerate(prefix):
            cache.update(pair[0], pair[1], layer)
        hidden = model(
            inputs_embeds=embeds, attention_mask=bias, position_ids=positions, past_key_values=cache, use_cache=True
        ).last_hidden_state.float()
        gate, _, query, end = heads(hidden[:, virtual:-2], task_mask, hidden[:, -3], hidden[:, -1], curve)
        return torch.cat([gate, end, query.flatten()])

    return call


def recorded_call(call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    """The same as a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call()

    def replay() -> torch.Tensor:
        graph.replay()
        return out

    return replay


# ---- inputs ---------------------------------------------------------------------------------------------------------


def words(count: int) -> str:
    """A text of about ``count`` tokens."""
    vocabulary = ("send", "the", "report", "to", "Anna", "and", "plot", "sales", "by", "region", "then", "file", "it")
    return " ".join(vocabulary[n % len(vocabulary)] for n in range(count))


def window(seed: int, gpus: int) -> CurveWindow:
    series = np.random.default_rng(seed).uniform(0, 40, (gpus, 96, 4)).astype(np.float32)
    return CurveWindow(series, 4.0 + 0.1 * seed)


def encoded(engine: OptimumEngine, count: int) -> ToolEncodings:
    tools = [ToolSpec(name=f"tool_{n}", desc=f"Does the thing number {n}. " * (1 + n % 3)) for n in range(count)]
    return engine.encode_tools(engine.prepare_tools(tools, None))


def decision_request(engine: OptimumEngine, number: int) -> OpenRequest:
    """A request that makes exactly 128 new tokens, over 64 tools, with a curve of its own."""
    wanted = NEW_TOKENS - 2 - engine.manifest.sizes.virtual_tokens
    text = words(wanted)
    while len(engine.preparation.task(text)) > wanted:
        text = text.rsplit(" ", 1)[0]
    while len(engine.preparation.task(text + " a")) <= wanted:
        text += " a"
    return OpenRequest(text, np.arange(PREFIX), window(number, 1))


# ---- the run --------------------------------------------------------------------------------------------------------


def stages(run: Run) -> dict[str, Callable[[], dict[str, Any]]]:
    """In the order in which their results are worth most."""
    cuda = run.device == "cuda"
    return {
        "env": lambda: environment(run),
        "build": lambda: build(run, "bfloat16"),
        "ort_recorded": lambda: ort(run, "bfloat16", cuda_graph=cuda, whole=True),
        "torch": lambda: torch_eager(run),
        "parity": lambda: parity(run),
        "ort_launched": lambda: ort(run, "bfloat16", cuda_graph=False, whole=False),
        "grouped": lambda: grouped(run) if cuda else {"skipped": "GroupQueryAttention in bfloat16 needs a GPU"},
        "build_float16": lambda: build(run, "float16"),
        "ort_float16": lambda: ort(run, "float16", cuda_graph=cuda, whole=False),
        "build_int4": lambda: build(run, "bfloat16", "int4"),
        "ort_int4": lambda: ort(run, "bfloat16", "int4", cuda_graph=cuda, whole=True),
    }


def table(results: dict[str, Any]) -> str:
    """What was measured, for people."""

    def p50(stage: str, *keys: str) -> float | None:
        found: Any = results.get(stage, {})
        for key in keys:
            found = found.get(key, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, float) else None

    floor = results.get("env", {}).get("floor_ms")
    rows = [
        ("bandwidth floor (layer weights / copy bandwidth)", floor),
        ("ONNX Runtime through Optimum, recorded, bfloat16", p50("ort_recorded", "decision", "p50_ms")),
        ("  the layers alone", p50("ort_recorded", "backbone_alone", "p50_ms")),
        ("  the same, launched", p50("ort_launched", "decision", "p50_ms")),
        ("  the same, float16, recorded", p50("ort_float16", "decision", "p50_ms")),
        ("  weights of 4 bits, bfloat16, recorded", p50("ort_int4", "decision", "p50_ms")),
        ("    the layers alone", p50("ort_int4", "backbone_alone", "p50_ms")),
        ("  layers with GroupQueryAttention, recorded", p50("grouped", "recorded", "p50_ms")),
        ("  layers with GroupQueryAttention, launched", p50("grouped", "launched", "p50_ms")),
        ("transformers, eager", p50("torch", "eager_batch_1", "p50_ms")),
        ("transformers, CUDA graph", p50("torch", "cuda_graph_batch_1", "p50_ms")),
        ("plan step (4 new tokens)", p50("ort_recorded", "plan_step", "p50_ms")),
        ("token of text", p50("ort_recorded", "text_token", "p50_ms")),
        ("plan step, weights of 4 bits", p50("ort_int4", "plan_step", "p50_ms")),
        ("token of text, weights of 4 bits", p50("ort_int4", "text_token", "p50_ms")),
    ]
    lines = ["", f"{'p50 of one decision':<52} ms"]
    lines += [f"{name:<52} {value:.2f}" for name, value in rows if value is not None]
    for batch in BATCHES:
        for name, value in (
            ("ONNX Runtime", p50("ort_recorded", f"batch_{batch}", "p50_ms")),
            ("transformers, eager", p50("torch", f"eager_batch_{batch}", "p50_ms")),
            ("transformers, CUDA graph", p50("torch", f"cuda_graph_batch_{batch}", "p50_ms")),
        ):
            if value is not None:
                lines.append(f"batch {batch:<3} {name:<42} {value:.2f}  {1000 * batch / value:.1f} decisions/s")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Command line; 1 when a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_7b", description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON, written after every stage")
    parser.add_argument("--stages", help="comma-separated; all by default")
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"), help="panels around the backbone")
    parser.add_argument("--work", type=Path, help="folder for artifacts (3 GB); a temporary one by default")
    parser.add_argument("--tiny", action="store_true", help="three small layers, to try the script")
    parser.add_argument("--cpu", action="store_true", help="on a processor, to try the script")
    args = parser.parse_args(argv)
    work = Path(tempfile.mkdtemp(prefix="gpu-7b-", dir=args.work))
    sizes = TINY if args.tiny else QWEN_7B
    config = load_config(args.config).model
    if args.tiny:
        config = config.model_copy(update={"tool": config.tool.model_copy(update={"d_resource": 64})})
    run = Run(config, sizes, "cpu" if args.cpu else "cuda", work, args.out)
    known = stages(run)
    chosen = args.stages.split(",") if args.stages else list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        parser.error(f"unknown stages {unknown}; there are {list(known)}")
    try:
        for name in chosen:
            run.stage(name, known[name])
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(table(run.results))
    return 1 if any("error" in found for found in run.results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
