"""One piece of the network as an ONNX graph with named axes."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, TensorProto, ValueInfoProto, helper
from torch import Tensor

from export.graphs import GraphSpec
from export.quantize import CONTRIB
from export.qwen_layers import OPSET, PLACEHOLDER_DOMAIN, TRACED_OPSET

IR_VERSION = 10
DTYPES = {
    torch.float32: TensorProto.FLOAT,
    torch.int64: TensorProto.INT64,
    torch.bool: TensorProto.BOOL,
}


@torch.no_grad()
def trace(spec: GraphSpec, opset: int = OPSET) -> ModelProto:
    """Traces a module; its inputs and outputs are declared as the spec names them.

    The tracing exporter is used because the other one (``dynamo=True``) took six minutes for an 8-layer backbone, this
    one four seconds, and because the result is small either way: library code is kept out of the modules.
    """
    module = spec.module.eval()
    outputs = module(*spec.inputs)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused operator of evaluation mode has no ONNX form
    try:
        model = _export(spec)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    _name_constants_once(model)
    use_standard_operators(model, opset)
    _declare(model.graph.input, spec.input_names, spec.inputs, spec)
    _declare(model.graph.output, spec.output_names, outputs, spec)
    return model


def _export(spec: GraphSpec) -> ModelProto:
    with tempfile.TemporaryDirectory(prefix="trace-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer warns at every shape that it rightly takes as dynamic
        path = Path(folder) / "graph.onnx"  # a file, because weights above 2 GB are written beside it
        torch.onnx.export(
            spec.module,
            spec.inputs,
            str(path),
            input_names=list(spec.input_names),
            output_names=list(spec.output_names),
            dynamic_axes=spec.axes,
            opset_version=TRACED_OPSET,
            dynamo=False,
        )
        return onnx.load(str(path))


def _name_constants_once(model: ModelProto) -> None:
    """Weights that occur twice reach their second reader through an Identity node; readers get the weight itself."""
    constants = {tensor.name for tensor in model.graph.initializer}
    copies = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity" and n.input[0] in constants}
    kept = [node for node in model.graph.node if node.output[0] not in copies]
    for node in kept:
        for index, name in enumerate(node.input):
            node.input[index] = copies.get(name, name)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def use_standard_operators(model: ModelProto, opset: int = OPSET) -> None:
    """Gives operators newer than the exporter their real domain, and the graph its real opset."""
    for node in model.graph.node:
        if node.domain == PLACEHOLDER_DOMAIN:
            node.domain = ""
    contrib = any(node.domain == CONTRIB for node in model.graph.node)
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", opset))
    if contrib:
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    model.ir_version = IR_VERSION
    del model.graph.value_info[:]


def _declare(
    values: Sequence[ValueInfoProto], names: tuple[str, ...], examples: tuple[Tensor, ...], spec: GraphSpec
) -> None:
    """Writes name, type and shape of every input or output; axes not named are as long as in the example.

    Raises:
        ValueError: The traced graph has other inputs or outputs than the spec (the tracer drops unused inputs).
    """
    if tuple(v.name for v in values) != names:
        raise ValueError(f"the traced graph has {[v.name for v in values]}, the spec says {list(names)}")
    for value, name, example in zip(values, names, examples, strict=True):
        axes = spec.axes.get(name, {})
        shape = [axes.get(axis, size) for axis, size in enumerate(example.shape)]
        value.CopyFrom(helper.make_tensor_value_info(name, DTYPES[example.dtype], shape))
