"""Layers of layout ``optimum`` with rounded weights: ``MatMulNBits``, whose activations stay in the graph's precision.

What is saved is memory, and time where reading weights is what takes it (few new tokens). Token table, LM head and the
router's heads are as without it. Unlike level ``int8`` of layout ``embedded``, nothing rounds activations: a GPU
multiplies half precision as fast.
"""

from __future__ import annotations

import re

import numpy as np
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper
from torch import Tensor

from export.optimum_backbone import raw_bytes
from export.quantize import CONTRIB, LAYER_BLOCKS, OTHER_BLOCKS, BlockFormat, to_blocks
from tomas_router.schema.manifest import Quantisation

FORMATS: dict[Quantisation, BlockFormat] = {"int8": OTHER_BLOCKS, "int4": LAYER_BLOCKS}
"""Levels of this layout beside ``none``."""
PRODUCTS = ("qkv", "out", "gate", "up", "down")
"""Matrices of a ``FusedLayer``, stored as (inputs K, outputs N)."""
BLOCKS, SCALES = "blocks", "scales"
_WEIGHT = re.compile(rf"layers\.\d+\.({'|'.join(PRODUCTS)})")


def read_blocks(model: ModelProto, level: Quantisation) -> None:
    """Makes every product of the layers read blocks; the new initialisers have sizes and types but no content yet."""
    graph = model.graph
    kept, weights = [], {}
    for tensor in graph.initializer:
        if _WEIGHT.fullmatch(tensor.name):
            weights[tensor.name] = tensor
        else:
            kept.append(tensor)
    nodes: list[NodeProto] = []
    for node in graph.node:
        weight = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None:
            nodes.append(node)
            continue
        (inputs, outputs), name = weight.dims, weight.name
        fitted = FORMATS[level].fitted(inputs)
        blocks = -(-inputs // fitted.block)
        kept.append(_empty(f"{name}_{BLOCKS}", TensorProto.UINT8, outputs, blocks, fitted.block * fitted.bits // 8))
        kept.append(_empty(f"{name}_{SCALES}", weight.data_type, outputs * blocks))
        nodes.append(
            helper.make_node(
                "MatMulNBits",
                [node.input[0], f"{name}_{BLOCKS}", f"{name}_{SCALES}"],
                list(node.output),
                name=node.name,
                domain=CONTRIB,
                K=inputs,
                N=outputs,
                bits=fitted.bits,
                block_size=fitted.block,
            )
        )
    for field, values in ((graph.initializer, kept), (graph.node, nodes)):
        del field[:]  # type: ignore[attr-defined]
        field.extend(values)  # type: ignore[attr-defined]
    if CONTRIB not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def stored_names(part: str, level: Quantisation) -> tuple[str, ...]:
    """Initialisers that hold a part of a layer."""
    return (f"{part}_{BLOCKS}", f"{part}_{SCALES}") if level in FORMATS and part in PRODUCTS else (part,)


def block_contents(weight_KN: Tensor, level: Quantisation) -> tuple[bytes, bytes]:
    """Content of the two initialisers of a weight: blocks, scales."""
    rows_NK = np.ascontiguousarray(weight_KN.float().numpy().T)
    numbers, scales = to_blocks(rows_NK, FORMATS[level].fitted(weight_KN.shape[0]))
    return numbers.tobytes(), raw_bytes(torch.from_numpy(scales).to(weight_KN.dtype))


def _empty(name: str, data_type: int, *dims: int) -> TensorProto:
    return TensorProto(name=name, data_type=data_type, dims=dims)
