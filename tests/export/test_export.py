from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from export.onnx import export
from export.parity import ParityError, check_parity
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.errors import ModelArtifactError, UntrainedModelError
from tomas_router.schema.manifest import read_manifest

_spec = importlib.util.spec_from_file_location("tiny", Path(__file__).parents[1] / "tiny.py")
assert _spec is not None
assert _spec.loader is not None
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)

pytestmark = pytest.mark.m4


@pytest.fixture(scope="module")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    tiny.save_tiny_checkpoint(directory)
    return directory


@pytest.fixture(scope="module")
def exported(checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tomas_router.training.checkpoint import load_checkpoint

    out = tmp_path_factory.mktemp("artifacts") / "float"
    export(load_checkpoint(checkpoint_dir), out, "none")
    return out


def test_export_when_float_agrees_closely_with_torch_at_untraced_sizes(exported: Path) -> None:
    report = json.loads((exported / "parity.json").read_text())
    assert max(report["relative_error"].values()) < 1e-4
    assert report["plan_agreement"] == 1.0


@pytest.mark.parametrize("level", ["int8", "int4"])
def test_export_when_quantised_still_passes_parity_and_is_smaller(
    level: str, checkpoint_dir: Path, exported: Path, tmp_path: Path
) -> None:
    from tomas_router.training.checkpoint import load_checkpoint

    report = export(load_checkpoint(checkpoint_dir), tmp_path / level, level)  # type: ignore[arg-type]
    assert report.plan_agreement >= 0.5
    assert (tmp_path / level / "weights.bin").stat().st_size < (exported / "weights.bin").stat().st_size


def test_parity_when_the_model_is_broken_fails(checkpoint_dir: Path, exported: Path) -> None:
    import torch

    reference = TorchEngine.load(checkpoint_dir)
    with torch.no_grad():
        reference.model.backbone.lm.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    with pytest.raises(ParityError):
        check_parity(reference, OnnxEngine.load(exported), "none")


def test_export_when_parity_fails_leaves_the_old_artifacts(
    checkpoint_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tomas_router.training.checkpoint import load_checkpoint

    def refuse(*_: object) -> None:
        raise ParityError("forced")

    module = sys.modules["export.onnx"]
    monkeypatch.setattr(module, "check_parity", refuse)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("kept")
    with pytest.raises(ParityError, match="forced"):
        export(load_checkpoint(checkpoint_dir), tmp_path / "out", "none")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "old").read_text() == "kept"


@pytest.mark.parametrize(
    "name", ["weights.bin", "backbone.onnx", "tokenizer.json", "small_tensors.npz", "context.onnx"]
)
def test_artifact_when_altered_is_refused_by_name(name: str, exported: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (copy / name).write_bytes(bytes(data))
    with pytest.raises(ModelArtifactError, match=f"{name} was altered"):
        OnnxEngine.load(copy, verify="full")
    (copy / name).write_bytes(bytes(data[:-1]))
    with pytest.raises(ModelArtifactError, match=f"{name} has"):
        OnnxEngine.load(copy)
    (copy / name).unlink()
    with pytest.raises(ModelArtifactError, match=f"{name} is missing"):
        OnnxEngine.load(copy)


def test_directory_when_nothing_was_exported_says_how_to_train(tmp_path: Path) -> None:
    with pytest.raises(UntrainedModelError, match="tomas train"):
        OnnxEngine.load(tmp_path)


def test_manifest_when_read_names_dynamic_axes(exported: Path) -> None:
    graphs = read_manifest(exported, verify="full").graphs
    shapes = {t.name: t.shape for t in (*graphs["backbone"].inputs, *graphs["backbone"].outputs)}
    assert shapes["inputs_embeds"] == ("batch", "sequence", 32)
    assert shapes["last_hidden_state"][:2] == ("batch", "sequence")
    assert shapes["past_key_values.0.key"] == ("batch", 2, "past_sequence", 8)


def test_tool_encoder_when_tools_are_batched_or_alone_gives_the_same_vectors(exported: Path) -> None:
    from tomas_router.schema.registry import ToolSpec

    engine = OnnxEngine.load(exported)
    tools = [ToolSpec(name="a", desc="short"), ToolSpec(name="b", desc="a much longer description of what it does")]
    together = engine.encode_tools(engine.prepare_tools(tools, None))
    alone = engine.encode_tools(engine.prepare_tools(tools[:1], None))
    np.testing.assert_allclose(together.take(np.array([0])).key_ND, alone.key_ND, atol=1e-4)
