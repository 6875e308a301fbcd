"""Weight quantisation of exported graphs.

``int8``: dynamic quantisation of the matrix products, one scale an output channel. ``int4``: weight-only blocks of 32
(``MatMulNBits``). Only the graphs with the backbone's layers are quantised; the heads are small and stay in float.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from tomas_router.schema.manifest import Quantisation

QUANTISED_GRAPHS = ("tool_encoder", "backbone")
INT4_BLOCK = 32


def quantise(graph: str, model: onnx.ModelProto, level: Quantisation) -> onnx.ModelProto:
    """The graph at a quantisation level; graphs outside ``QUANTISED_GRAPHS`` are returned as they are."""
    if level == "none" or graph not in QUANTISED_GRAPHS:
        return model
    return _int8(model) if level == "int8" else _int4(model)


def _int8(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(source))
        quantize_dynamic(
            str(source),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
        return onnx.load(str(target))


def _int4(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=INT4_BLOCK, is_symmetric=True)
    quantizer.process()
    return quantizer.model.model
