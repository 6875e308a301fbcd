"""Both engines on a tiny model: the request path against teacher forcing, and what ONNX Runtime's engine promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.onnx import export
from export.seal import seal
from tests import tiny
from tomas_router.engines import core
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.errors import ArtifactMismatchError, MissingExtraError
from tomas_router.model import tomas_model
from tomas_router.planner.engine import CurveWindow, RoutingEngine, ToolEncodings
from tomas_router.schema.registry import ToolSpec

pytestmark = pytest.mark.m5
TOOLS = [ToolSpec(name=f"tool_{i}", desc=f"does the thing number {i} " * (1 + i % 3)) for i in range(9)]
WINDOW = CurveWindow(np.random.default_rng(0).uniform(0, 30, (2, 96, 4)).astype(np.float32), 5.0)
REQUEST = "Do thing three, then thing five."
SHORTLIST = np.array([1, 3, 5, 8])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = tiny.save_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))
    with torch.no_grad():  # a fresh set encoder is a no-op, and would hide a missing set_delta
        torch.nn.init.normal_(made.model.classifier.set_key.weight, std=0.2)
        made.model.classifier.prior_weight.fill_(0.3)
    return made


@pytest.fixture(scope="module")
def torch_engine(checkpoint: Any) -> TorchEngine:
    return TorchEngine(checkpoint)


@pytest.fixture(scope="module")
def directory(checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifacts") / "int8"
    export(checkpoint, out, "int8")
    return out


@pytest.fixture(scope="module")
def onnx_engine(directory: Path) -> OnnxEngine:
    return OnnxEngine.load(directory)


@pytest.fixture(params=["torch_engine", "onnx_engine"])
def engine(request: pytest.FixtureRequest) -> RoutingEngine:
    found: RoutingEngine = request.getfixturevalue(request.param)
    return found


def encoded(engine: RoutingEngine) -> ToolEncodings:
    return engine.encode_tools(engine.prepare_tools(TOOLS, None))


@torch.no_grad()
def test_torch_engine_when_fed_step_by_step_agrees_with_teacher_forcing(checkpoint: Any, torch_engine: Any) -> None:
    from tomas_router.training.layout import lay_out

    model, preparation, plan = checkpoint.model, torch_engine.preparation, [3, 5]
    batch = torch_engine.prepare_tools(TOOLS, None)
    arrays = (batch.token_ids_NL, batch.token_mask_NL, batch.rows_NR6, batch.row_mask_NR)
    tools = model.encode_tools(*(torch.from_numpy(a) for a in arrays))
    task = preparation.task(REQUEST)
    layout = lay_out([len(task)], [len(plan)], torch_engine.virtual_tokens)
    series, horizon = preparation.window(WINDOW)
    prefix = torch.zeros(1, len(TOOLS), dtype=torch.bool)
    prefix[0, SHORTLIST] = True
    forcing = tomas_model.TeacherForcing(
        task_ids_BS=torch.from_numpy(task)[None],
        task_mask_BS=torch.ones(1, len(task), dtype=torch.bool),
        links_B=torch.tensor([1]),
        plan_tools_BK=torch.tensor([plan]),
        layout_BT=torch.from_numpy(layout.source_BT),
        layout_mask_BT=torch.from_numpy(layout.mask_BT),
        gate_pos_B=torch.from_numpy(layout.gate_pos_B),
        slot_pos_BK1=torch.from_numpy(layout.slot_pos_BK1),
        step_pos_BK=torch.from_numpy(layout.step_pos_BK),
        candidate_mask_BN=torch.ones(1, len(TOOLS), dtype=torch.bool),
        prefix_mask_BN=prefix,
        series_BGT4=torch.from_numpy(series)[None],
        log_horizon_B1=torch.from_numpy(horizon)[None],
        size_BK=torch.full((1, 2), -1),
    )
    expected = model(tools, forcing)

    encodings = encoded(torch_engine)
    opening = torch_engine.open(REQUEST, encodings, SHORTLIST, WINDOW, "order")
    first = torch_engine.step(opening.state, plan[0])
    second = torch_engine.step(first.state, plan[1])
    assert opening.gate_logit == pytest.approx(float(expected.gate_B), abs=1e-4)
    for slot, outcome in enumerate((opening, first, second)):
        np.testing.assert_allclose(outcome.tool_logits, expected.tool_logits_BKN[0, slot], atol=2e-4, rtol=1e-3)
    for step, outcome in enumerate((first, second)):
        np.testing.assert_allclose(outcome.size_logits, expected.size_logits_BK3[0, step], atol=1e-4)
        scaled = preparation.rows.inverse_targets(expected.targets_BK5[0, step].numpy())
        np.testing.assert_allclose(outcome.resources, scaled, rtol=1e-3, atol=1e-4)
    assert first.depends_logits.shape == (0,)
    np.testing.assert_allclose(second.depends_logits, expected.depends_BKK[0, 1, :1], atol=1e-4)


def test_state_when_branches_share_it_is_never_changed(engine: RoutingEngine) -> None:
    tools = encoded(engine)
    state = engine.open(REQUEST, tools, SHORTLIST, WINDOW, "dataflow").state
    first = engine.step(state, 3)
    engine.step(engine.step(state, 5).state, 1)
    again = engine.step(state, 3)
    np.testing.assert_array_equal(first.tool_logits, again.tool_logits)
    np.testing.assert_array_equal(first.resources, again.resources)


def test_shortlist_when_permuted_changes_nothing(engine: RoutingEngine) -> None:
    tools = encoded(engine)
    one = engine.open(REQUEST, tools, SHORTLIST, WINDOW, "dataflow").tool_logits
    two = engine.open(REQUEST, tools, SHORTLIST[::-1].copy(), WINDOW, "dataflow").tool_logits
    np.testing.assert_allclose(one, two, atol=2e-3)


def test_open_when_the_curve_or_links_change_answers_differently(engine: RoutingEngine) -> None:
    tools = encoded(engine)
    base = engine.open(REQUEST, tools, SHORTLIST, WINDOW, "dataflow").tool_logits
    empty = CurveWindow(np.zeros_like(WINDOW.series_GT4), WINDOW.log_horizon)
    assert np.abs(engine.open(REQUEST, tools, SHORTLIST, empty, "dataflow").tool_logits - base).max() > 1e-3
    assert np.abs(engine.open(REQUEST, tools, SHORTLIST, WINDOW, "order").tool_logits - base).max() > 1e-5


@pytest.mark.parametrize(
    ("shortlist", "links", "message"), [([], "order", "at least one tool"), ([1], "both", "'both'")]
)
def test_open_when_inputs_are_impossible_says_so(
    engine: RoutingEngine, shortlist: list[int], links: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        engine.open(REQUEST, encoded(engine), np.array(shortlist, dtype=np.int64), WINDOW, links)


def test_tools_when_encoded_alone_or_in_a_batch_are_the_same(engine: RoutingEngine) -> None:
    together = encoded(engine)
    for index in (0, 5):
        alone = engine.encode_tools(engine.prepare_tools([TOOLS[index]], None))
        for name in ToolEncodings.__dataclass_fields__:
            np.testing.assert_allclose(getattr(together, name)[index], getattr(alone, name)[0], atol=5e-3)


def test_explain_when_called_streams_text_up_to_the_limit(engine: RoutingEngine) -> None:
    pieces = list(engine.explain(REQUEST, encoded(engine), WINDOW, max_tokens=12))
    assert "".join(pieces)
    assert len(pieces) <= 13


def test_plain_text_when_it_spells_a_special_token_stays_text(engine: RoutingEngine) -> None:
    ids = engine.preparation.task("<TOOL_PLAN><TOOL_ID></TOOL_PLAN>")  # type: ignore[attr-defined]
    assert ids.max() < tiny.SIZES["vocab_size"]
    assert len(ids) > 3


def test_constants_when_copied_to_the_torch_free_side_are_the_models() -> None:
    assert core.LINKS == tomas_model.LINKS
    assert core.RETRIEVAL_SCALE == tomas_model.RETRIEVAL_SCALE


def test_sessions_when_only_routing_leave_text_and_tool_encoder_unloaded(directory: Path, onnx_engine: Any) -> None:
    tools = encoded(onnx_engine)
    engine = OnnxEngine.load(directory)
    engine.open(REQUEST, tools, SHORTLIST, WINDOW, "dataflow")
    assert not {"tool_encoder", "lm_head"} & set(engine._sessions)


def test_fingerprint_when_weights_change_differs(checkpoint: Any, directory: Path, tmp_path: Path) -> None:
    with torch.no_grad():
        kept = checkpoint.model.gate.score.bias.clone()
        checkpoint.model.gate.score.bias.add_(1.0)
    try:
        export(checkpoint, tmp_path / "other", "int8")
    finally:
        with torch.no_grad():
            checkpoint.model.gate.score.bias.copy_(kept)
    assert OnnxEngine.load(tmp_path / "other").fingerprint != OnnxEngine.load(directory).fingerprint


def test_artifact_when_made_for_another_calibration_is_refused(directory: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    manifest = (copy / "manifest.json").read_text()
    (copy / "manifest.json").write_text(manifest.replace('"twin_margin"', '"twins"'))
    seal(copy)
    with pytest.raises(
        ArtifactMismatchError, match=r"manifest\.json: calibration: expected .*twin_margin.*, found .*twins"
    ):
        OnnxEngine.load(copy)


def test_load_when_onnxruntime_is_missing_names_both_extras(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'pip install "tomas-router\[cpu\]".*"tomas-router\[gpu\]"'):
        OnnxEngine.load(directory)


def test_load_when_cuda_is_asked_of_a_cpu_build_says_what_to_install(directory: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        assert OnnxEngine.load(directory, "cuda")
        return
    with pytest.raises(MissingExtraError, match="CUDAExecutionProvider"):
        OnnxEngine.load(directory, "cuda")


@pytest.mark.parametrize(("options", "message"), [({"provider": "tpu"}, "tpu"), ({"intra_op_num_threads": -1}, "-1")])
def test_load_when_options_are_unknown_names_them(directory: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnnxEngine.load(directory, **options)


def test_onnx_engine_when_imported_loads_no_torch() -> None:
    code = (
        "import sys, tomas_router.engines.onnx_engine;"
        "print([m for m in ('torch', 'transformers', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
