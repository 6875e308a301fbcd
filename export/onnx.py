"""Exports a trained checkpoint to ONNX artifacts that run without torch.

    python -m export.onnx --checkpoint DIR --out DIR [--quantize none|int8|int4]

Writes every graph, one shared weights file, the tokenizer and ``manifest.json``, checks parity with the checkpoint, and
only then moves the finished directory into place: a failed export leaves nothing behind.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from rich.console import Console
from rich.progress import track

from export.graphs import GraphSpec, QuantisedEmbedding, graph_specs
from export.parity import TOLERANCES, ParityReport, check_parity
from export.quantize import quantise
from export.shared_weights import WEIGHTS, SharedWeights
from tomas_router.engines.onnx_engine import SMALL_TENSORS, OnnxEngine
from tomas_router.engines.torch_engine import TorchEngine, small_tensors
from tomas_router.schema.manifest import (
    MANIFEST,
    FileEntry,
    GraphEntry,
    Manifest,
    Quantisation,
    TensorEntry,
    file_sha256,
)
from tomas_router.training.checkpoint import Checkpoint, load_checkpoint

OPSET = 17


def export(checkpoint: Checkpoint, out: Path, quantisation: Quantisation = "int8") -> ParityReport:
    """Writes the artifacts of a checkpoint to ``out``, replacing what is there.

    Raises:
        ParityError: The artifacts do not agree with the checkpoint; ``out`` is left as it was.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        fresh = Path(folder) / "model"
        fresh.mkdir()
        embedding = QuantisedEmbedding(checkpoint.model.backbone.embedding_table.weight.detach().float())
        _read_embedding_like_the_export(checkpoint, embedding)
        reference = TorchEngine(checkpoint)
        _write(checkpoint, embedding, reference.fingerprint, fresh, quantisation)
        report = check_parity(reference, OnnxEngine.load(fresh), quantisation)
        report.write(fresh)
        if out.exists():
            shutil.rmtree(out)
        fresh.rename(out)
    return report


def _read_embedding_like_the_export(checkpoint: Checkpoint, embedding: QuantisedEmbedding) -> None:
    """The reference reads the same one-byte table, so that parity measures the graphs."""
    table = checkpoint.model.backbone.embedding_table
    with torch.no_grad():
        table.weight.copy_(embedding.table.float() * embedding.scale)


def _write(
    checkpoint: Checkpoint, embedding: QuantisedEmbedding, fingerprint: str, out: Path, quantisation: Quantisation
) -> None:
    shared = SharedWeights()
    embedding_offset, _ = shared.add(embedding.table.numpy().tobytes())
    graphs: dict[str, GraphEntry] = {}
    for name, spec in track(
        graph_specs(checkpoint.model, embedding).items(), "exporting", console=Console(stderr=True)
    ):
        model = quantise(name, trace(spec), quantisation)
        graphs[name] = _graph_entry(name, model)
        shared.absorb(model)
        (out / f"{name}.onnx").write_bytes(model.SerializeToString())
    shared.write(out)
    for name in graphs:
        onnx.checker.check_model(str(out / f"{name}.onnx"))
    _write_small_tensors(checkpoint, embedding, out)
    shutil.copyfile(checkpoint.tokenizer_path, out / "tokenizer.json")
    manifest = _manifest(checkpoint, fingerprint, quantisation, graphs, embedding_offset, out)
    (out / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")


def trace(spec: GraphSpec) -> onnx.ModelProto:
    """One graph in memory."""
    buffer = io.BytesIO()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused operator of evaluation mode has no ONNX form
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer warns at every shape that it rightly takes as dynamic
        torch.onnx.export(
            spec.module.eval(),
            spec.inputs,
            buffer,  # type: ignore[arg-type]
            input_names=list(spec.input_names),
            output_names=list(spec.output_names),
            dynamic_axes=spec.axes,
            opset_version=OPSET,
            dynamo=False,
        )
    return inline_shared(onnx.load_model_from_string(buffer.getvalue()))


def inline_shared(model: onnx.ModelProto) -> onnx.ModelProto:
    """Reads shared tensors directly: the tracer puts an ``Identity`` before the second use, which hides the weight."""
    constants = {tensor.name for tensor in model.graph.initializer}
    source = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity" and n.input[0] in constants}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name in source:
                node.input[i] = source[name]
    kept = [n for n in model.graph.node if not (n.op_type == "Identity" and n.output[0] in source)]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return model


def _write_small_tensors(checkpoint: Checkpoint, embedding: QuantisedEmbedding, out: Path) -> None:
    small = small_tensors(checkpoint.model)
    np.savez(
        out / SMALL_TENSORS,
        special=small.special_4D,
        links=small.links_2D,
        tool_token_gain=small.tool_token_gain_D,
        prior_weight=np.float32(small.prior_weight),
        retrieval_weight=small.retrieval_weight_W,
        retrieval_projection=small.retrieval_projection_ED,
        embedding_scale=embedding.scale[:, 0].numpy(),
    )


def _graph_entry(name: str, model: onnx.ModelProto) -> GraphEntry:
    def entries(values: object) -> tuple[TensorEntry, ...]:
        return tuple(
            TensorEntry(
                name=value.name,
                dtype=onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower(),
                shape=tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim),
            )
            for value in values  # type: ignore[attr-defined]
        )

    return GraphEntry(file=f"{name}.onnx", inputs=entries(model.graph.input), outputs=entries(model.graph.output))


def _manifest(
    checkpoint: Checkpoint,
    fingerprint: str,
    quantisation: Quantisation,
    graphs: dict[str, GraphEntry],
    embedding_offset: int,
    out: Path,
) -> Manifest:
    config, backbone = checkpoint.config, checkpoint.model.backbone.config
    files = sorted(p for p in out.iterdir() if p.name != MANIFEST)
    return Manifest(
        name=config.name,
        fingerprint=f"{fingerprint}-{quantisation}",
        quantisation=quantisation,
        opset=OPSET,
        sizes={
            "d_model": backbone.hidden_size,
            "layers": backbone.num_hidden_layers,
            "kv_heads": backbone.num_key_value_heads,
            "head_dim": backbone.hidden_size // backbone.num_attention_heads,
            "vocab": backbone.vocab_size,
            "virtual_tokens": config.temporal.virtual_tokens,
            "max_prefix_tools": config.max_prefix_tools,
            "max_task_tokens": config.max_task_tokens,
            "max_tool_tokens": config.tool.max_tokens,
            "max_rows": config.tool.max_rows,
            "embedding_offset": embedding_offset,
        },
        row_scaler=asdict(checkpoint.statistics.rows),
        curve_scaler=asdict(checkpoint.statistics.curves),
        calibration=asdict(checkpoint.statistics.calibration),
        graphs=graphs,
        files={p.name: FileEntry(bytes=p.stat().st_size, sha256=file_sha256(p)) for p in files},
        tolerances={"relative_error": TOLERANCES[quantisation]},
        versions={
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    )


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m export.onnx", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="what training wrote (OUT/final)")
    parser.add_argument("--out", type=Path, required=True, help="directory of the artifacts; replaced when complete")
    parser.add_argument("--quantize", choices=get_args(Quantisation), default="int8")
    args = parser.parse_args(argv)
    report = export(load_checkpoint(args.checkpoint), args.out, args.quantize)
    console = Console(stderr=True)
    for path in sorted(args.out.iterdir()):
        console.print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.name}")
    total = sum(p.stat().st_size for p in args.out.iterdir())
    console.print(f"{total / 1e6:8.2f} MB  in all ({WEIGHTS} is shared by all graphs)")
    worst = max(report.relative_error.values())
    console.print(f"parity: largest relative error {worst:.2g}, plans equal {report.plan_agreement:.0%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
