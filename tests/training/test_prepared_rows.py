"""Rows made ahead are the rows that training would make, and a file that may hold others is refused."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tomas_router.cli.main import main as tomas
from tomas_router.datasets.rows import Row, Step
from tomas_router.errors import DataValidationError
from tomas_router.schema.registry import ToolRegistry, ToolSpec
from tomas_router.training.prepared_rows import Part, read_prepared, write_prepared
from tomas_router.training.sources import load_sources

pytestmark = pytest.mark.m4
GENERATED, WORLD_ROWS = 40, 60
NAMES = ["own", "worlds", "public", "tool_needed"]
CONFIG = f"""
model: {{name: tiny, backbone: {{source: somewhere}}, tool: {{d_resource: 8}}}}
train:
  generated_rows: {GENERATED}
  generated_world_rows: {WORLD_ROWS}
  mixture: {{own: 0.5, worlds: 0.3, public: 0.1, tool_needed: 0.1}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``public`` rows with a registry, ``tool_needed`` rows without, and the file that the command makes of them."""
    folder = tmp_path_factory.mktemp("prepared")
    rows = [
        {"instruction": f"Do job {i}", "steps": [{"tool": f"job{i % 3}", "depends_on": []}], "split": split,
         "candidates": ["job0", "job1", "job2"]}
        for i, split in enumerate(["train", "val", "test"] * 4)
    ]  # fmt: skip
    asks = [{"instruction": f"Why {split}?", "needs_tool": False, "split": split} for split in ("train", "val")]
    for name, lines in (("public", rows), ("tool_needed", asks)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tools = [{"name": f"job{i}", "desc": f"Does job {i}.", "tags": ["group:jobs"]} for i in range(3)]
    (folder / "public.tools.json").write_text(json.dumps(tools))
    (folder / "config.yaml").write_text(CONFIG)
    command = ["prepare", "--config", str(folder / "config.yaml"), "--data-dir", str(folder)]
    assert tomas([*command, "--out", str(folder / "rows.jsonl.gz")]) == 0
    return folder


@pytest.mark.parametrize("split", ["train", "val"])
def test_prepared_rows_when_read_are_what_training_would_compose_and_read(folder: Path, split: str) -> None:
    file = str(folder / "rows.jsonl.gz")
    made = load_sources(NAMES, (str(folder),), split, GENERATED, WORLD_ROWS)
    read = load_sources(NAMES, (file,), split, GENERATED, WORLD_ROWS, file)
    assert list(read) == list(made) == NAMES
    for name in NAMES:
        assert read[name].rows == made[name].rows, name
        assert read[name].registry.tools == made[name].registry.tools, name
    assert {row.language for row in read["worlds"].rows} > {"en"} or split == "val"


def test_prepared_rows_when_written_again_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    file = folder / "rows.jsonl.gz"
    found = read_prepared(file)
    settings = {key: found.manifest[key] for key in ("generated_rows", "generated_world_rows", "seeds")}
    manifest = write_prepared(tmp_path / "again.jsonl.gz", found.parts, settings)
    assert (tmp_path / "again.jsonl.gz").read_bytes() == file.read_bytes()
    assert manifest == found.manifest
    assert manifest["counts"]["public/train"] == 4
    assert manifest["counts"]["own/train"] == len(found.parts["own", "train"].rows)


def test_rows_when_they_say_all_that_a_row_can_are_read_as_written(tmp_path: Path) -> None:
    steps = (Step("a"), Step("b", (0,), "large", "twins"))
    row = Row("7", "Tu a\u2028et b", steps, False, "chain", "order", "Why.", "train", ("a", "b"), True, "web", "fr")
    registry = ToolRegistry([ToolSpec(name="a", desc="Does a."), ToolSpec(name="b", desc="Does b.", version="2")])
    part = Part((row,), registry)
    write_prepared(tmp_path / "rows.gz", {("mine", "train"): part}, {})
    read = read_prepared(tmp_path / "rows.gz").parts["mine", "train"]
    assert read.rows == part.rows
    assert read.registry is not None
    assert read.registry.tools == registry.tools


def changed(folder: Path, tmp_path: Path, **manifest: object) -> str:
    """The file with another manifest."""
    first, rest = gzip.decompress((folder / "rows.jsonl.gz").read_bytes()).split(b"\n", 1)
    path = tmp_path / "changed.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(json.loads(first) | manifest).encode() + b"\n" + rest))
    return str(path)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"version": 99}, r"changed\.jsonl\.gz:1: version must be 1, that of this package.*tomas prepare, got 99"),
        (
            {"generator": "0123"},
            r"gz:1: generator must be '\w{16}', that of.*another version.*, got '0123'",
        ),
        ({"format": "other"}, r"gz:1: format must be 'tomas-prepared-rows'.*, got 'other'"),
        ({"generated_rows": 5}, r"gz:1: generated_rows must be 40, as the training configuration says.*, got 5"),
        ({"seeds": {"own": 1}}, r"gz:1: seeds must be \{'own': 1007, .*, got \{'own': 1\}"),
    ],
)
def test_prepared_rows_when_of_another_version_are_refused(
    folder: Path, tmp_path: Path, manifest: dict[str, object], message: str
) -> None:
    with pytest.raises(DataValidationError, match=message):
        load_sources(["own"], (), "train", GENERATED, WORLD_ROWS, changed(folder, tmp_path, **manifest))


def test_prepared_rows_when_cut_off_or_no_gzip_are_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "rows.jsonl.gz").read_bytes()
    text = gzip.decompress(whole).split(b"\n")
    for name, content in (
        ("cut", whole[: len(whole) // 2]),
        ("fewer", gzip.compress(b"\n".join(text[:-5]))),
        ("plain", b"".join(text)),
        ("empty", b""),
        ("garbled", gzip.compress(b"\n".join([*text[:2], b'{"colour": 1}', *text[3:]]))),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataValidationError, match=f"{name}:\\d+: .*tomas prepare"):
            read_prepared(tmp_path / name)


def test_prepared_rows_when_a_source_is_missing_are_refused(folder: Path, tmp_path: Path) -> None:
    found = read_prepared(folder / "rows.jsonl.gz")
    settings = {key: found.manifest[key] for key in ("generated_rows", "generated_world_rows", "seeds")}
    write_prepared(tmp_path / "own.gz", {("own", "train"): found.parts["own", "train"]}, settings)
    with pytest.raises(DataValidationError, match="must hold the training rows of worlds"):
        load_sources(NAMES, (), "train", GENERATED, WORLD_ROWS, str(tmp_path / "own.gz"))


def test_prepare_when_called_needs_no_torch(folder: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; import tomas_router.training.prepare"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_trainer_when_given_prepared_rows_draws_and_validates_the_same(folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from tests import tiny
    from tomas_router.model.tomas_model import TOMASLLMModel
    from tomas_router.training.loop import Trainer

    runs = []
    for changes in ({"data_dirs": (str(folder),)}, {"prepared": str(folder / "rows.jsonl.gz")}):
        config = tiny.run_config(
            mixture={"own": 0.5, "public": 0.5}, generated_rows=GENERATED, generated_world_rows=WORLD_ROWS, **changes
        )
        torch.manual_seed(0)
        model = TOMASLLMModel.from_config(config.model)
        runs.append(Trainer(model, config, tiny.TOKENIZER, tiny.statistics(), tmp_path))
    made, read = runs
    for number in range(6):
        a, b = made.feed[number], read.feed[number]
        assert torch.equal(a.forcing.task_ids_BS, b.forcing.task_ids_BS)
        assert torch.equal(a.tools.ids_NL, b.tools.ids_NL)
    assert made.validate(8) == read.validate(8)
    assert set(read.validate(8)) == {"own", "public"}


def test_tools_when_held_out_are_in_no_training_row_but_still_in_validation(folder: Path, tmp_path: Path) -> None:
    lines = [json.dumps({"instruction": f"Do {i}", "steps": [{"tool": f"job{i % 3}", "depends_on": []}], "split": s})
             for s in ("train", "val") for i in range(6)]  # fmt: skip
    (tmp_path / "public.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "public.tools.json").write_text((folder / "public.tools.json").read_text())
    config = CONFIG.replace("public: 0.1, tool_needed: 0.1", "public: 0.2")
    (tmp_path / "config.yaml").write_text(config)
    (tmp_path / "held_out.txt").write_text("job1\n")
    out = tmp_path / "rows.jsonl.gz"
    command = ["prepare", "--config", str(tmp_path / "config.yaml"), "--data-dir", str(tmp_path), "--out", str(out)]
    assert tomas([*command, "--held-out", str(tmp_path / "held_out.txt")]) == 0
    training = load_sources(["public"], (str(out),), "train", GENERATED, WORLD_ROWS, str(out))["public"]
    assert len(training.rows) == 4
    assert "job1" not in training.registry
    assert "job1" not in {step.tool for row in training.rows for step in row.steps} | set(training.answers)
    validation = load_sources(["public"], (str(out),), "val", GENERATED, WORLD_ROWS, str(out))["public"]
    assert "job1" in {step.tool for row in validation.rows for step in row.steps}


def test_held_out_tools_when_unknown_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "held_out.txt").write_text("job1 \n\njob9\n")
    command = ["prepare", "--config", str(folder / "config.yaml"), "--data-dir", str(folder)]
    out = tmp_path / "rows.jsonl.gz"
    assert tomas([*command, "--out", str(out), "--held-out", str(tmp_path / "held_out.txt")]) != 0
    assert "must name tools of the public sources, got job9" in capsys.readouterr().err.replace("\n", " ")
    assert not out.exists()
