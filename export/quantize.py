"""Rewrites matrix products with constant weights for smaller and faster graphs.

``int8``: weights to 7 bits, one scale an output channel; activations to 8 bits, one scale a *row*, found while running.
``packed``: as ``int8``, but layers are stored with 4 bits and multiplied by the small steps of their blocks before a
session is made (``tomas_router.model.packing``, ``tomas_router.schema.packed_layers``): half the file.
``int4``: the backbone's layers to 4 bits in blocks of 32, everything else to 8 bits in blocks of 64 (``MatMulNBits``).

Measured on a trained 8-layer model, one thread of a server core with VNNI: a pass of 29 tokens behind 64 tools, a pass
of 3 tokens, and how far the hidden states move:

| | 29 tokens | 3 tokens | error |
|---|---|---|---|
| float | 20.4 ms | 10.4 ms | 0 |
| ONNX Runtime's dynamic quantisation (one activation scale a tensor) | 9.5 ms | 5.2 ms | 22 % |
| ``MatMulNBits``, 8 bits in blocks of 64 | 16.6 ms | 2.7 ms | 2.5 % |
| one scale a row, 8-bit weights | 7.3 ms | 2.1 ms | 7.3 % |
| the same after smoothing (``export.smoothing``) | 7.0 ms | 2.1 ms | 4.4 % |
| the same with 7-bit weights: ``int8`` | 7.2 ms | 2.2 ms | 5.1 % |
| ``MatMulNBits``, 4 bits in blocks of 32: the layers of ``int4`` | 23 ms | 3.7 ms | 17 % |

One scale a tensor lets the few huge activations of a language model drown all others, and makes a tool's encoding
depend on the other tools of its batch. Seven bits, because processors without VNNI sum the products of two 8-bit
numbers in pairs with saturation: 255 * 63 * 2 fits 16 bits, 255 * 127 * 2 does not. ``int8`` is made for processors; on
a GPU its products would run on the host, so export ``none`` or ``int4`` for one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tomas_router.model.packing import Packed, pack, packable
from tomas_router.schema.manifest import Quantisation

QUANTISED_GRAPHS = ("text", "tool_encoder", "tool_set", "context", "backbone")
"""The heads that read decisions are small and stay in float."""
PACKED_GRAPHS = (*QUANTISED_GRAPHS, "step_heads")
"""Where the file must be small, what proposes resources and dependencies is rounded as well."""
KEPT_IN_FLOAT = ("/retrieval/", "/slot_query/", "/size/", "/target/")
"""The classifier adds retrieval similarities times twenty: too steep for rounding; the others choose, and are small."""
LAYER_SUFFIX = "_proj"
"""Modules of the backbone's layers are named so (q_proj, ..., down_proj)."""
CONTRIB = "com.microsoft"
LEAST_INPUTS = 32
"""Matrices with fewer inputs gain nothing."""

WEIGHT_LIMIT = 63
ACTIVATION_LIMIT = 127
ACTIVATION_ZERO = 128
SMALLEST_SCALE = 1e-12
"""Keeps a row of zeros from dividing by zero."""

INT8_ACTIVATIONS = 4
"""``accuracy_level`` of ``MatMulNBits``: activations are rounded to 8 bits, block by block of each row."""
SHRINK = {8: (1.0,), 4: (1.0, 0.95, 0.9, 0.85, 0.8)}
"""Scales tried a block; at 4 bits clipping the largest weight often costs less than coarse steps do."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class BlockFormat:
    """How wide a number is and how many share a scale."""

    bits: int
    block: int

    @property
    def zero_point(self) -> int:
        """The stored number that means 0."""
        return 1 << (self.bits - 1)

    def fitted(self, inputs: int) -> BlockFormat:
        """The same with a block no longer than a row, at least 16."""
        block = self.block
        while block > max(16, inputs):
            block //= 2
        return BlockFormat(self.bits, block)


LAYER_BLOCKS = BlockFormat(4, 32)
OTHER_BLOCKS = BlockFormat(8, 64)
TOKEN_TABLE_FORMAT = BlockFormat(8, 64)
"""The token table keeps 8 bits at both levels: it is read row by row, and the LM head ranks with it."""


def to_blocks(weight_NK: Array, format_: BlockFormat) -> tuple[NDArray[np.uint8], Array]:
    """Rounds each row in blocks.

    Returns:
        Packed numbers (N, K / block, block * bits / 8), rows padded to whole blocks, and scales (N, K / block).
    """
    rows, inputs = weight_NK.shape
    blocks = -(-inputs // format_.block)
    padded = np.zeros((rows, blocks * format_.block), dtype=np.float32)
    padded[:, :inputs] = weight_NK
    values = padded.reshape(rows, blocks, format_.block)
    limit = format_.zero_point - 1
    widest = np.maximum(np.abs(values).max(-1, keepdims=True) / limit, SMALLEST_SCALE)
    scale, least = widest, np.full(widest.shape, np.inf)
    for shrink in SHRINK[format_.bits]:
        tried = widest * shrink
        error = np.square(np.clip(np.rint(values / tried), -limit - 1, limit) * tried - values).sum(-1, keepdims=True)
        scale, least = np.where(error < least, tried, scale), np.minimum(error, least)
    stored = (np.clip(np.rint(values / scale), -limit - 1, limit) + format_.zero_point).astype(np.uint8)
    return _pack(stored, format_.bits), scale[..., 0].astype(np.float32)


def _pack(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return values
    return (values[..., 0::2] | (values[..., 1::2] << 4)).astype(np.uint8)


def to_channels(weight_KN: Array) -> tuple[NDArray[np.int8], Array]:
    """Rounds each output channel (column) to 7 bits; numbers (K, N) and scales (N,)."""
    scale = np.maximum(np.abs(weight_KN).max(0) / WEIGHT_LIMIT, SMALLEST_SCALE).astype(np.float32)
    return np.rint(weight_KN / scale).astype(np.int8), scale


class Quantised(NamedTuple):
    """A rewritten graph."""

    model: ModelProto
    packed: dict[str, Packed]
    """By initialiser: how the int8 matrix is stored (level ``packed``)."""


def quantise(graph: str, model: ModelProto, level: Quantisation) -> Quantised:
    """Rewrites a graph in place; graphs outside ``QUANTISED_GRAPHS`` stay as they are."""
    rewriter = _Rewriter(model, level)
    if level != "none" and graph in (PACKED_GRAPHS if level == "packed" else QUANTISED_GRAPHS):
        rewriter.run()
    return Quantised(model, rewriter.packed)


@dataclass
class _Rewriter:
    """One pass over a graph; weights and activations with several readers are rounded once."""

    model: ModelProto
    level: Quantisation
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, TensorProto] = field(default_factory=dict)
    packed: dict[str, Packed] = field(default_factory=dict)
    rounded: dict[str, tuple[str, str]] = field(default_factory=dict)  # activation -> its 8-bit numbers, its row scales

    def run(self) -> None:
        graph = self.model.graph
        weights = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            weight_KN = _constant_weight(node, weights)
            if weight_KN is None or any(part in node.name for part in KEPT_IN_FLOAT):
                self.nodes.append(node)
                continue
            product = f"{node.output[0]}_product"
            bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 else ""
            target = product if bias else node.output[0]
            if self.level == "packed" and _in_a_layer(node) and packable(weight_KN.shape[0]):
                self._row_product(node, weight_KN, target, stored_packed=True)
            elif self.level in ("int8", "packed"):
                self._row_product(node, weight_KN, target)
            else:
                format_ = LAYER_BLOCKS if _in_a_layer(node) else OTHER_BLOCKS
                self._block_product(node, weight_KN, target, format_.fitted(weight_KN.shape[0]))
            if bias:
                self._add("Add", [product, bias], node.output[0])
        self._replace()

    def _replace(self) -> None:
        graph = self.model.graph
        read = {name for node in self.nodes for name in node.input} | {value.name for value in graph.output}
        kept = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:], graph.node[:]
        graph.initializer.extend([*kept, *self.constants.values()])
        graph.node.extend(self.nodes)
        if self.constants and CONTRIB not in {entry.domain for entry in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(CONTRIB, 1))

    def _row_product(self, node: NodeProto, weight_KN: Array, target: str, stored_packed: bool = False) -> None:
        source = node.input[1]
        if f"{source}_scale" not in self.constants:
            if stored_packed:
                self._packed_weight(source, weight_KN)
            else:
                numbers, scales = to_channels(weight_KN)
                self._constant(f"{source}_int8", numbers)
                self._constant(f"{source}_scale", scales)
        activation, row_scale = self._rounded_rows(node.input[0])
        one, zero = self._constant("unit_scale", np.float32(1)), self._constant("activation_zero", ACTIVATION_ZERO_U8)
        weight_zero = self._constant("weight_zero", np.int8(0))
        self._add(
            "MatMulIntegerToFloat",
            [activation, f"{source}_int8", one, f"{source}_scale", zero, weight_zero],
            f"{target}_unscaled",
            domain=CONTRIB,
        )
        self._add("Mul", [f"{target}_unscaled", row_scale], target)

    def _packed_weight(self, source: str, weight_KN: Array) -> None:
        rounded = pack(torch.from_numpy(np.array(weight_KN.T)))
        self._constant(f"{source}_int8", rounded.product().numpy().T.astype(np.int8, order="C"))
        self._constant(f"{source}_scale", rounded.channel_N.numpy().astype(np.float32))
        self.packed[f"{source}_int8"] = rounded

    def _rounded_rows(self, activation: str) -> tuple[str, str]:
        if activation not in self.rounded:
            names = {part: f"{activation}_{part}" for part in ("size", "peak", "step", "scale", "unit", "uint8")}
            self._add("Abs", [activation], names["size"])
            last = self._constant("last_axis", np.array([-1], dtype=np.int64))
            self._add("ReduceMax", [names["size"], last], names["peak"], keepdims=1)
            limit = self._constant("activation_limit", np.float32(ACTIVATION_LIMIT))
            self._add("Div", [names["peak"], limit], names["step"])
            smallest = self._constant("smallest_scale", np.float32(SMALLEST_SCALE))
            self._add("Max", [names["step"], smallest], names["scale"])
            self._add("Div", [activation, names["scale"]], names["unit"])
            one = self._constant("unit_scale", np.float32(1))
            zero = self._constant("activation_zero", ACTIVATION_ZERO_U8)
            self._add("QuantizeLinear", [names["unit"], one, zero], names["uint8"])
            self.rounded[activation] = names["uint8"], names["scale"]
        return self.rounded[activation]

    def _block_product(self, node: NodeProto, weight_KN: Array, target: str, format_: BlockFormat) -> None:
        source = node.input[1]
        if f"{source}_blocks" not in self.constants:
            packed, scales = to_blocks(np.ascontiguousarray(weight_KN.T), format_)
            self._constant(f"{source}_blocks", packed)
            self._constant(f"{source}_scale", scales.reshape(-1))
        self._add(
            "MatMulNBits",
            [node.input[0], f"{source}_blocks", f"{source}_scale"],
            target,
            domain=CONTRIB,
            K=weight_KN.shape[0],
            N=weight_KN.shape[1],
            bits=format_.bits,
            block_size=format_.block,
            accuracy_level=INT8_ACTIVATIONS,
        )

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def _add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: int) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))


ACTIVATION_ZERO_U8 = np.uint8(ACTIVATION_ZERO)


def _in_a_layer(node: NodeProto) -> bool:
    """Whether the product belongs to the backbone's layers; ``/layers/q_proj_1/MatMul`` does."""
    module = node.name.rsplit("/", 2)[-2] if node.name.count("/") >= 2 else ""
    return module.rstrip("0123456789_").endswith(LAYER_SUFFIX)


def _constant_weight(node: NodeProto, weights: dict[str, TensorProto]) -> Array | None:
    """The (K, N) weight of a matrix product that can be rewritten."""
    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in weights:
        return None
    tensor = weights[node.input[1]]
    if len(tensor.dims) != 2 or tensor.data_type != TensorProto.FLOAT:
        return None
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        return None
    weight: Array = numpy_helper.to_array(tensor)
    weight = weight.T if attributes.get("transB") else weight
    return weight if weight.shape[0] >= LEAST_INPUTS else None
