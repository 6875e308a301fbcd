"""On a GPU: the same logits as on a processor, in every precision, launched and recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from benchmarks.gpu_7b import SMALL, Run, parity
from tomas_router.config import load_config

pytestmark = [pytest.mark.m5, pytest.mark.gpu]


def test_decisions_when_made_on_a_gpu_are_the_processors(tmp_path: Path) -> None:
    found = parity(Run(load_config("configs/default.yaml").model, SMALL, "cuda", tmp_path, None))
    allowed = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.02}
    for name, result in found.items():
        assert "error" not in result, (name, result)
        assert result["relative_error"] < allowed[name.split()[0]], name
