"""What the graphs of layout ``optimum`` declare, read without weights: a 7B model is not loaded to be verified."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import onnx
from onnx import TensorProto, ValueInfoProto

from tomas_router.engines.onnx_engine import InterfaceDifference
from tomas_router.schema.manifest import Manifest, TensorEntry


def declared_difference(directory: Path, manifest: Manifest) -> InterfaceDifference | None:
    """The first input or output that a graph declares otherwise than the manifest says."""
    for name, entry in manifest.graphs.items():
        graph = onnx.load(str(directory / entry.file), load_external_data=False).graph
        for kind, declared, written in (("input", graph.input, entry.inputs), ("output", graph.output, entry.outputs)):
            pairs = zip_longest(map(_declared, declared), written)
            different = next(((s, w) for s, w in pairs if s != w), None)
            if different is not None:
                return InterfaceDifference(name, kind, *different)
    return None


def _declared(value: ValueInfoProto) -> TensorEntry:
    tensor = value.type.tensor_type
    names = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}
    dtype = names.get(tensor.elem_type) or TensorProto.DataType.Name(tensor.elem_type).lower()
    return TensorEntry(
        name=value.name, dtype=dtype, shape=tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    )
