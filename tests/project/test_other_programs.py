"""The artifacts without this package: Python on plain ONNX Runtime, and JavaScript, beside the engine."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomas_router import shipped
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.planner.engine import CurveWindow
from tomas_router.schema.registry import ToolSpec

pytestmark = pytest.mark.m5

EXAMPLES = Path(__file__).parents[2] / "examples"
PLAIN, JAVASCRIPT = EXAMPLES / "plain_onnxruntime.py", EXAMPLES / "javascript"
LOGIT_ERROR = 1e-3
"""Of logits around 10 to 30, on the same ONNX Runtime: float32 sums in another order."""
LOGIT_ERROR_OF_VERSIONS = 0.2
"""On another ONNX Runtime: an activation between two 8-bit numbers may round the other way. Versions 1.30 and
1.32 differed by 1e-5, 1.24 and 1.32 by 0.1."""


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """The example's variables after it ran."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", [str(PLAIN)])
        return runpy.run_path(str(PLAIN), run_name="__main__")


def test_plain_example_when_read_imports_three_packages_and_none_of_ours() -> None:
    imports = re.findall(r"^(?:import|from) (\w+)", PLAIN.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(imports) == {"json", "sys", "pathlib", "numpy", "onnxruntime", "tokenizers"}


def test_plain_example_when_run_gives_the_engines_numbers(plain: dict[str, Any]) -> None:
    engine = OnnxEngine.load(shipped.model_dir())
    tools = [ToolSpec(name=name, desc=desc) for name, desc in plain["TOOLS"].items()]
    encodings = engine.encode_tools(engine.prepare_tools(tools, None))
    curve = np.tile(np.array(plain["FREE"], np.float32), (1, engine.manifest.sizes.curve_points, 1))
    window = CurveWindow(curve, float(np.log(3600)))
    opening = engine.open(plain["REQUEST"], encodings, np.arange(len(tools)), window, "dataflow")
    assert float(plain["gate"]) == pytest.approx(opening.gate_logit, abs=LOGIT_ERROR)
    np.testing.assert_allclose(plain["logits"], opening.tool_logits, atol=LOGIT_ERROR)


def test_javascript_example_when_run_gives_the_same_numbers(plain: dict[str, Any]) -> None:
    node = shutil.which("node")
    if node is None or not (JAVASCRIPT / "node_modules" / "onnxruntime-node").is_dir():
        pytest.skip("needs Node.js and its packages: npm ci --prefix examples/javascript")
    done = subprocess.run([node, "tool_scores.mjs"], cwd=JAVASCRIPT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["needs_a_tool"] == plain["needed"]
    assert answer["gate_logit"] == pytest.approx(float(plain["gate"]), abs=LOGIT_ERROR_OF_VERSIONS)
    assert list(answer["logits"]) == list(plain["scores"])
    np.testing.assert_allclose(
        list(answer["logits"].values()), list(plain["scores"].values()), atol=LOGIT_ERROR_OF_VERSIONS
    )


def test_javascript_packages_when_locked_name_no_host_and_a_runtime_that_is_new_enough() -> None:
    lock = (JAVASCRIPT / "package-lock.json").read_text(encoding="utf-8")
    assert "resolved" not in lock
    version = json.loads(lock)["packages"]["node_modules/onnxruntime-node"]["version"]
    manifest = json.loads((shipped.model_dir() / "manifest.json").read_text(encoding="utf-8"))
    least = manifest.get("least_onnxruntime", "1.24.1")
    assert tuple(map(int, version.split("."))) >= tuple(map(int, least.split(".")))
