from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx

from export.onnx import export, main
from export.parity import ParityError, check_parity
from export.seal import seal
from tests import tiny
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.engines.torch_engine import TorchEngine
from tomas_router.errors import UntrainedModelError
from tomas_router.schema.file_check import file_sha256
from tomas_router.schema.manifest import read_manifest

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
    assert report["plans_equal"] == report["requests"]
    assert "| backbone.last_hidden_state |" in (exported / "parity.md").read_text()


@pytest.mark.parametrize("level", ["int8", "packed", "int4"])
def test_export_when_quantised_still_passes_parity_and_is_smaller(
    level: str, checkpoint_dir: Path, exported: Path, tmp_path: Path
) -> None:
    from tomas_router.training.checkpoint import load_checkpoint

    report = export(load_checkpoint(checkpoint_dir), tmp_path / level, level)  # type: ignore[arg-type]
    assert report.choices > 30
    assert (tmp_path / level / "weights.bin").stat().st_size < (exported / "weights.bin").stat().st_size


def test_parity_when_the_model_is_broken_fails(checkpoint_dir: Path, exported: Path) -> None:
    import torch

    reference = TorchEngine.load(checkpoint_dir)
    with torch.no_grad():
        reference.model.backbone.lm.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    with pytest.raises(ParityError, match=r"(backbone|tool_encoder)\.\S+ differs by"):
        check_parity(reference, OnnxEngine.load(exported), "none")


def test_parity_when_a_stored_weight_is_corrupted_blames_the_graph(
    checkpoint_dir: Path, exported: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(exported, broken)
    graph = onnx.load(str(broken / "tool_set.onnx"), load_external_data=False)
    largest = max(graph.graph.initializer, key=lambda t: int(np.prod(t.dims)))
    place = {entry.key: entry.value for entry in largest.external_data}
    with (broken / "weights.bin").open("r+b") as file:
        file.seek(int(place["offset"]))
        file.write(np.full(64, 3.0, dtype=np.float32).tobytes())
    manifest = json.loads((broken / "manifest.json").read_text())
    manifest["files"]["weights.bin"]["sha256"] = file_sha256(broken / "weights.bin")  # only parity can see it now
    (broken / "manifest.json").write_text(json.dumps(manifest))
    seal(broken)
    with pytest.raises(ParityError, match=r"tool_set\.keys differs by"):
        check_parity(TorchEngine.load(checkpoint_dir), OnnxEngine.load(broken), "none")


def test_parity_when_the_manifest_names_another_axis_says_which(checkpoint_dir: Path, exported: Path) -> None:
    engine = OnnxEngine.load(exported)
    entry = engine.manifest.graphs["context"]
    renamed = entry.model_copy(
        update={"inputs": (entry.inputs[0].model_copy(update={"name": "curve"}), *entry.inputs[1:])}
    )
    engine.manifest = engine.manifest.model_copy(update={"graphs": engine.manifest.graphs | {"context": renamed}})
    with pytest.raises(ParityError, match=r"context: input is .*series.* the manifest says .*curve"):
        check_parity(TorchEngine.load(checkpoint_dir), engine, "none")


def test_export_when_run_leaves_the_checkpoint_as_it_was(checkpoint_dir: Path, tmp_path: Path) -> None:
    from tomas_router.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(checkpoint_dir)
    before = TorchEngine(checkpoint).fingerprint
    export(checkpoint, tmp_path / "out", "int8")
    assert TorchEngine(checkpoint).fingerprint == before


def test_command_when_there_is_no_checkpoint_exits_2_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
    assert "holds no trained heads" in capsys.readouterr().err


def test_weights_when_graphs_share_layers_are_stored_once(exported: Path) -> None:
    def places(graph: str) -> dict[tuple[str, str], int]:
        tensors = onnx.load(str(exported / f"{graph}.onnx"), load_external_data=False).graph.initializer
        fields = [{entry.key: entry.value for entry in t.external_data} for t in tensors if t.external_data]
        return {(f["offset"], f["length"]): int(f["length"]) for f in fields}

    encoder, backbone = places("tool_encoder"), places("backbone")
    shared = sum(size for place, size in backbone.items() if place in encoder)
    assert shared > 0.8 * sum(backbone.values())
    assert str(read_manifest(exported).token_table.values.offset) in {offset for offset, _ in encoder}


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


def test_directory_when_nothing_was_exported_says_how_to_train(tmp_path: Path) -> None:
    with pytest.raises(UntrainedModelError, match="tomas train"):
        OnnxEngine.load(tmp_path)


def test_manifest_when_read_names_dynamic_axes(exported: Path) -> None:
    graphs = read_manifest(exported, verify="always").graphs
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


@pytest.mark.parametrize("level", ["none", "int8", "packed", "int4"])
def test_load_artifacts_when_read_back_computes_what_the_artifacts_compute(level: Any, tmp_path: Path) -> None:
    import torch

    from tomas_router.training.artifacts import load_artifacts

    original = tiny.save_tiny_checkpoint(tmp_path / "checkpoint", tiny.TIED)
    export(original, tmp_path / level, level)
    restored = load_artifacts(tmp_path / level)
    check_parity(TorchEngine(restored), OnnxEngine.load(tmp_path / level), level)
    assert restored.statistics == original.statistics
    assert restored.config == original.config
    if level == "none":
        weights = restored.model.state_dict()
        for name, tensor in original.model.state_dict().items():
            torch.testing.assert_close(weights[name], tensor, msg=lambda text, name=name: f"{name}: {text}")


def test_load_artifacts_when_the_lm_head_is_apart_says_so(exported: Path) -> None:
    from tomas_router.training.artifacts import load_artifacts

    with pytest.raises(UntrainedModelError, match="LM head of its own"):
        load_artifacts(exported)


def test_load_start_when_the_export_is_older_says_what_is_missing(exported: Path, tmp_path: Path) -> None:
    from tomas_router.training.artifacts import PARAMETERS, load_start

    old = tmp_path / "old"
    shutil.copytree(exported, old)
    (old / PARAMETERS).unlink()
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["files"][PARAMETERS]
    (old / "manifest.json").write_text(json.dumps(manifest))
    seal(old)
    with pytest.raises(UntrainedModelError, match=r"holds no parameters\.json"):
        load_start(old)
