"""A half-precision graph as float32, for a processor that has no kernels for bfloat16 and slow ones for float16.

The weights stay in their file as they are: each gets a cast, which ONNX Runtime computes once when it loads the graph.
"""

from __future__ import annotations

from pathlib import Path

from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx import load as load_onnx

HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
FLOAT = TensorProto.FLOAT


def widened(path: Path) -> bytes:
    """The graph at ``path``, serialised, with every half-precision value in float32."""
    model = load_onnx(str(path), load_external_data=False)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type in HALF:
            stored, name = f"{tensor.name}/stored", tensor.name
            tensor.name = stored
            casts.append(helper.make_node("Cast", [stored], [name], name=f"{name}/widened", to=FLOAT))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in HALF:
            value.type.tensor_type.elem_type = FLOAT
    _widen_nodes(model)
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    data: bytes = model.SerializeToString()
    return data


def _widen_nodes(model: ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in HALF:
                attribute.i = FLOAT
            elif node.op_type == "Constant" and attribute.t.data_type in HALF:
                wide = numpy_helper.to_array(attribute.t).astype("float32")
                attribute.t.CopyFrom(numpy_helper.from_array(wide, attribute.t.name))
