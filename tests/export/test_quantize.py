from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from export.quantize import LAYER_BLOCKS, OTHER_BLOCKS, BlockFormat, quantise, to_blocks, to_channels

pytestmark = pytest.mark.m4


def product(weight_KN: np.ndarray, name: str = "/layers/q_proj/MatMul") -> helper.ModelProto:
    inputs, outputs = weight_KN.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name=name)],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(weight_KN, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def run(model: helper.ModelProto, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


@pytest.mark.parametrize("format_", [OTHER_BLOCKS, LAYER_BLOCKS, BlockFormat(8, 16)])
@pytest.mark.parametrize("inputs", [64, 48, 70])
def test_blocks_when_unpacked_are_within_half_a_step(format_, inputs):
    weight = np.random.default_rng(0).normal(size=(5, inputs)).astype(np.float32)
    packed, scales = to_blocks(weight, format_)
    numbers = packed if format_.bits == 8 else np.stack([packed & 15, packed >> 4], -1).reshape(*packed.shape[:2], -1)
    back = ((numbers.astype(np.float32) - format_.zero_point) * scales[..., None]).reshape(5, -1)[:, :inputs]
    widest = np.repeat(scales, format_.block, axis=1)[:, :inputs]
    clipped = 3 if format_.bits == 4 else 0.51  # 4 bits may clip the largest weight of a block
    assert (np.abs(back - weight) <= clipped * widest).all()


def test_channels_when_rounded_never_saturate_pairs_of_products():
    numbers, scales = to_channels(np.random.default_rng(0).normal(size=(64, 9)).astype(np.float32))
    assert np.abs(numbers.astype(int)).max() * 255 * 2 <= 32767
    assert scales.shape == (9,)


@pytest.mark.parametrize("level", ["int8", "packed", "int4"])
def test_product_when_quantised_stays_close_at_any_number_of_rows(level):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(96, 40)).astype(np.float32)
    model = quantise("backbone", product(weight), level).model
    for rows in (1, 2, 7):
        x = rng.normal(size=(rows, 96)).astype(np.float32)
        error = np.linalg.norm(run(model, x) - x @ weight) / np.linalg.norm(x @ weight)
        assert error < (0.02 if level == "int8" else 0.15)


def test_product_when_one_row_is_huge_leaves_the_others_exact():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(96, 40)).astype(np.float32)
    model = quantise("backbone", product(weight), "int8").model
    x = rng.normal(size=(3, 96)).astype(np.float32)
    beside = x.copy()
    beside[2] *= 1e4
    np.testing.assert_array_equal(run(model, x)[:2], run(model, beside)[:2])


def test_product_when_a_row_is_zero_gives_zero():
    model = quantise("backbone", product(np.ones((64, 8), np.float32)), "int8").model
    np.testing.assert_array_equal(run(model, np.zeros((2, 64), np.float32)), 0.0)


@pytest.mark.parametrize(("graph", "name"), [("open_heads", "/gate/MatMul"), ("tool_encoder", "/retrieval/MatMul")])
def test_product_when_precision_matters_stays_in_float(graph, name):
    model = quantise(graph, product(np.ones((64, 8), np.float32), name), "int8").model
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
