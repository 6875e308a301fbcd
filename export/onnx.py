"""Exports a trained checkpoint to ONNX artifacts that run without torch.

    python -m export.onnx --checkpoint DIR --out DIR [--quantize none|int8|int4]
    python -m export.onnx --config configs/default.yaml --checkpoint DIR --out DIR [--precision bfloat16] [--no-parity]

The first form writes layout ``embedded``, for ``OnnxEngine``; the second, for a backbone on a GPU, layout ``optimum``
(``export.optimum_artifacts``). Both write every graph, one weights file that they share, the tokenizer and
``manifest.json``, check parity with the checkpoint, and only then move the finished directory into place: a failed
export leaves nothing behind.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from export.graphs import BackboneParts, graph_specs, max_positions
from export.manifest import TOKENIZER, graph_entry, write_manifest
from export.origins import WeightOrigins
from export.parity import ParityError, ParityReport, check_parity
from export.quantize import quantise
from export.qwen_layers import Qwen2Layers
from export.replaced import replaced
from export.sample_inputs import run_calibration
from export.shared_weights import LAYERS, WEIGHTS, SharedWeights
from export.small_tensors import write_small_tensors
from export.smoothing import recorded_peaks, smoothed
from export.token_rows import FloatRows, PackedRows
from export.trace import trace
from tomas_router.config import ModelConfig, load_config
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.errors import TomasRouterError
from tomas_router.schema.manifest import ArrayEntry, GraphEntry, Layout, Precision, Quantisation, TokenTableEntry
from tomas_router.training.checkpoint import Checkpoint, load_checkpoint

console = Console(stderr=True)


def export(checkpoint: Checkpoint, out: Path, quantisation: Quantisation = "int8") -> ParityReport:
    """Writes the artifacts of a checkpoint to ``out``, replacing what is there.

    Raises:
        ParityError: The artifacts do not agree with the checkpoint; ``out`` is left as it was.
        ValueError: The checkpoint's tools come from a name table, which only knows the names it was trained with.
    """
    if checkpoint.config.tool.encoder != "text":
        raise ValueError(
            f"export needs tool.encoder 'text', got {checkpoint.config.tool.encoder!r}: "
            "a name table cannot encode the tools of another registry"
        )
    reference = TorchEngine(checkpoint)
    with replaced(out) as fresh:
        write_artifacts(checkpoint, reference, fresh, quantisation)
        console.print("checking parity with the checkpoint")
        report = check_parity(reference, OnnxEngine.load(fresh, verify="always"), quantisation)
        report.write(fresh)
    return report


def write_artifacts(checkpoint: Checkpoint, reference: TorchEngine, out: Path, quantisation: Quantisation) -> None:
    """All files but the parity report."""
    model = checkpoint.model.float()
    rows: type[PackedRows | FloatRows] = FloatRows if quantisation == "none" else PackedRows
    backbone = model.backbone
    tokens = rows(backbone.embedding_table.weight)
    lm_head = tokens if backbone.config.tie_word_embeddings else rows(backbone.lm.lm_head.weight)
    parts = _parts(checkpoint, reference, quantisation)
    specs, origins = graph_specs(model, parts, tokens, lm_head), WeightOrigins(checkpoint, parts)
    graphs: dict[str, GraphEntry] = {}
    with _progress() as progress, SharedWeights(out) as shared:
        bar = progress.add_task("exporting", total=len(specs) + 1, graph="token table")
        table = _write_token_table(tokens, shared)
        progress.advance(bar)
        for name, spec in specs.items():
            progress.update(bar, graph=name)
            graph = trace(spec)
            sources = origins.sources(graph)
            graph, packed = quantise(name, graph, quantisation)
            origins.settle(name, graph, sources)
            graphs[name] = graph_entry(name, graph)
            shared.absorb(graph, packed)
            onnx.save(graph, str(out / graphs[name].file))
            progress.advance(bar)
    for entry in graphs.values():
        onnx.checker.check_model(str(out / entry.file))
    (out / LAYERS).unlink()
    write_small_tensors(checkpoint.model, out)
    origins.write(out)
    shutil.copyfile(checkpoint.tokenizer_path, out / TOKENIZER)
    write_manifest(
        checkpoint, reference.fingerprint, quantisation, graphs, table, out, packed_layers=shared.packed_layers()
    )


def _parts(checkpoint: Checkpoint, reference: TorchEngine, quantisation: Quantisation) -> BackboneParts:
    """The backbone's layers, smoothed where activations will be rounded row by row."""
    backbone, positions = checkpoint.model.backbone, max_positions(checkpoint.config)
    text, upper = backbone.text, backbone.lm.model
    if quantisation == "int8":
        stack = [*(text.layers if text is not None else ()), *upper.layers]
        with recorded_peaks(stack) as peaks:
            run_calibration(reference, checkpoint.config.temporal.points)
        below = len(stack) - len(upper.layers)
        text = None if text is None else smoothed(text, peaks)
        upper = smoothed(upper, {(index - below, part): peak for (index, part), peak in peaks.items()})
    return BackboneParts(
        None if text is None else Qwen2Layers(backbone, positions, text), Qwen2Layers(backbone, positions, upper)
    )


def _write_token_table(tokens: PackedRows | FloatRows, shared: SharedWeights) -> TokenTableEntry:
    def entry(array: np.ndarray) -> ArrayEntry:
        offset, _ = shared.add(array.tobytes())
        dtype = "uint8" if array.dtype == np.uint8 else "float32"
        return ArrayEntry(file=WEIGHTS, dtype=dtype, offset=offset, shape=array.shape)

    values, scales = tokens.arrays()
    return TokenTableEntry(width=tokens.width, values=entry(values), scales=None if scales is None else entry(scales))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[graph]}"),
        console=console,
    )


def _summary(out: Path, report: ParityReport | None) -> None:
    files = sorted(p for p in out.iterdir())
    for path in files:
        console.print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.name}", highlight=False)
    total = sum(path.stat().st_size for path in files)
    console.print(f"{total / 1e6:8.2f} MB  in all ({WEIGHTS} is shared by all graphs)", highlight=False)
    said = "parity was not checked" if report is None else report.headline()
    console.print(said, soft_wrap=True, highlight=False)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when exported, 2 when the checkpoint cannot be exported, 1 when parity fails."""
    parser = argparse.ArgumentParser(prog="python -m export.onnx", description=__doc__)
    parser.add_argument("--config", type=Path, help="a file of configs/; by default what the checkpoint says of itself")
    parser.add_argument("--checkpoint", type=Path, required=True, help="what training wrote (OUT/final)")
    parser.add_argument("--out", type=Path, required=True, help="directory of the artifacts; replaced when complete")
    parser.add_argument(
        "--quantize",
        choices=get_args(Quantisation),
        help="embedded: int8 by default; optimum: none by default, int8 and int4 round the layers' weights",
    )
    parser.add_argument("--layout", choices=get_args(Layout), help="by default optimum for a backbone on a GPU")
    parser.add_argument("--precision", choices=get_args(Precision), help="layout optimum; by default backbone.dtype")
    parser.add_argument("--no-parity", action="store_true", help="layout optimum: spare the memory of the whole model")
    args = parser.parse_args(argv)
    try:
        report = _export(args)
    except ParityError as error:
        console.print(f"parity failed, nothing was written: {error}", soft_wrap=True)
        return 1
    except (TomasRouterError, ValueError, OSError) as error:
        console.print(f"cannot export {args.checkpoint}: {error}", soft_wrap=True)
        return 2
    _summary(args.out, report)
    return 0


def _export(args: argparse.Namespace) -> ParityReport | None:
    config = _config(args.checkpoint, args.config)
    layout = args.layout or ("embedded" if config is None or config.backbone.device_map is None else "optimum")
    if layout == "embedded":
        if args.precision or args.no_parity:
            raise ValueError("--precision and --no-parity belong to layout 'optimum', the layout is 'embedded'")
        return export(load_checkpoint(args.checkpoint), args.out, args.quantize or "int8")
    # By name: the embedded layout is exported without Optimum.
    module = import_module("export.optimum_export")
    precision = args.precision or (config.backbone.dtype if config is not None else "float32")
    report: ParityReport | None = module.export_optimum(
        args.checkpoint, args.out, precision, args.quantize or "none", parity=not args.no_parity, report=_tell
    )
    return report


def _config(checkpoint: Path, path: Path | None) -> ModelConfig | None:
    """The checkpoint's configuration, with the backbone's type and place from the file that was named.

    Raises:
        ValueError: The file shapes another network than the checkpoint's; names the fields.
    """
    stored = checkpoint / "config.yaml"
    if not stored.exists():
        return None  # no checkpoint, which whoever loads it says better
    config = ModelConfig.model_validate(yaml.safe_load(stored.read_text(encoding="utf-8"))["model"])
    if path is None:
        return config
    wanted = load_config(path).model
    shapes = {"tool", "temporal", "heads", "max_task_tokens", "max_prefix_tools", "max_steps"}
    if other := sorted(name for name in shapes if getattr(wanted, name) != getattr(config, name)):
        raise ValueError(f"{path} is not the configuration of {checkpoint}: {', '.join(other)} differ")
    return wanted


def _tell(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
