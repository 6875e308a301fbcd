"""A model directory is a contract: whatever is altered in it is refused by name, with what was expected and found."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import onnx

from export.manifest import LEAST_ONNXRUNTIME
from export.onnx import export
from export.onnx import main as export_main
from export.seal import main as seal_main
from export.seal import seal
from tests import tiny
from tomas_router import shipped
from tomas_router.cli.main import main as tomas
from tomas_router.engines import onnx_engine
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.errors import ArtifactMismatchError, ModelArtifactError
from tomas_router.features.known_tools import KnownTools, digest
from tomas_router.features.request_words import BUCKETS, JobWords, RequestWords
from tomas_router.planner.engine import Calibration
from tomas_router.schema import file_check, manifest
from tomas_router.schema.json_schema import json_schema
from tomas_router.schema.manifest import read_manifest
from tomas_router.schema.onnx_header import declared_opsets
from tomas_router.schema.registry import ToolSpec
from tomas_router.training.artifacts import load_artifacts

pytestmark = pytest.mark.m4
ROOT = Path(__file__).parents[2]
GRAPHS = ("backbone", "context", "lm_head", "open_heads", "step_heads", "text", "tool_encoder", "tool_set")
FILES = (
    *(f"{graph}.onnx" for graph in GRAPHS),
    *("manifest.json", "parameters.json", "parameters.npz", "small_tensors.npz", "tokenizer.json", "weights.bin"),
)
REPORTS = {"parity.json", "parity.md"}
SHOWN = re.compile(
    r"^(?P<file>\S+): (?P<what>[^:]+): expected (?P<expected>.+), found (?P<found>.+); export the model again"
)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that ``make export`` runs."""
    folder = tmp_path_factory.mktemp("artifacts")
    places = [f"CHECKPOINT={folder / 'checkpoint'}", f"OUT={folder / 'out'}"]
    done = subprocess.run(
        ["make", "--dry-run", "export", *places], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return next(line.split() for line in done.stdout.splitlines() if "export.onnx" in line)


@pytest.fixture(scope="module")
def exported(recipe: list[str]) -> Path:
    """Made by that command, in this process."""
    arguments = recipe[recipe.index("export.onnx") + 1 :]
    tiny.save_tiny_checkpoint(Path(arguments[arguments.index("--checkpoint") + 1]))
    assert export_main(arguments) == 0
    return Path(arguments[arguments.index("--out") + 1])


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def refusal(directory: Path, **options: Any) -> ArtifactMismatchError:
    with pytest.raises(ArtifactMismatchError) as caught:
        OnnxEngine.load(directory, **options)
    shown = SHOWN.match(str(caught.value))
    assert shown is not None, str(caught.value)
    assert shown["file"] == caught.value.file
    assert shown["expected"] != shown["found"]
    return caught.value


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.write_bytes(bytes(data))


def edit(directory: Path, **fields: Any) -> None:
    """Changes fields of the manifest and seals it, as somebody would who means it."""
    path = directory / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    seal(directory)


def set_unsealed(directory: Path, **fields: Any) -> None:
    """Changes fields of the manifest as the first version, which had no checksum to betray it."""
    path = directory / "manifest.json"
    content = json.loads(path.read_text()) | {"schema_version": "1.0", "checksum": None} | fields
    path.write_text(json.dumps(content))


# ---- every file in turn ---------------------------------------------------------------------------------------------


def test_files_when_exported_are_the_documented_ones_and_all_listed(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == set(FILES) | REPORTS
    assert set(read_manifest(exported).files) == set(FILES) - {"manifest.json"}
    page = (ROOT / "docs" / "artifacts.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in (*FILES, *REPORTS))


@pytest.mark.parametrize("name", FILES)
def test_artifact_when_one_byte_is_flipped_is_refused_by_name(name: str, copy: Path) -> None:
    flip(copy / name, (copy / name).stat().st_size // 2)
    error = refusal(copy)
    assert error.file == str(copy / name)
    # A byte of JSON's own syntax leaves no JSON whose checksum could be compared.
    assert error.what in (("checksum", "content") if name == "manifest.json" else ("SHA-256",))


@pytest.mark.parametrize("name", FILES)
def test_artifact_when_truncated_is_refused_by_name(name: str, copy: Path) -> None:
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-2])
    error = refusal(copy)
    assert error.file == str(copy / name)
    if name != "manifest.json":
        assert (error.what, error.expected, error.found) == ("size", f"{len(data)} bytes", f"{len(data) - 2} bytes")


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_artifact_when_removed_is_refused_by_name(name: str, copy: Path) -> None:
    (copy / name).unlink()
    error = refusal(copy)
    assert (error.file, error.what, error.found) == (str(copy / name), "file", "no such file")


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_artifact_when_swapped_for_another_of_its_size_is_refused_by_name(name: str, copy: Path) -> None:
    other = copy / ("context.onnx" if name != "context.onnx" else "backbone.onnx")
    size = (copy / name).stat().st_size
    (copy / name).write_bytes(other.read_bytes().ljust(size, b"\0")[:size])
    error = refusal(copy)
    assert (error.file, error.what) == (str(copy / name), "SHA-256")


def test_manifest_when_taken_from_another_model_is_refused(copy: Path) -> None:
    shutil.copyfile(shipped.model_dir() / "manifest.json", copy / "manifest.json")
    assert refusal(copy).what in ("size", "SHA-256")


def test_manifest_when_any_byte_of_it_is_flipped_is_never_taken(copy: Path) -> None:
    path = copy / "manifest.json"
    data = path.read_bytes()
    for at in range(0, len(data), 97):  # every kind of place: names, numbers, brackets, the checksum itself
        path.write_bytes(data)
        flip(path, at)
        assert refusal(copy).file == str(path)


# ---- versions, opset, tokenizer -------------------------------------------------------------------------------------


def test_manifest_when_of_a_later_version_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace('"schema_version": "1.2"', '"schema_version": "2.0"'))
    error = refusal(copy)
    assert (error.what, error.expected, error.found) == ("schema_version", "1.0 or 1.1 or 1.2", "2.0")


def test_manifest_when_of_the_first_version_is_still_read(copy: Path) -> None:
    path = copy / "manifest.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("checksum", "least_onnxruntime")}
    path.write_text(json.dumps(old | {"schema_version": "1.0"}))
    assert OnnxEngine.load(copy).manifest.checksum is None
    assert seal(copy).least_onnxruntime == LEAST_ONNXRUNTIME
    assert OnnxEngine.load(copy).manifest.schema_version == "1.2"


def test_manifest_when_the_current_version_lacks_its_checksum_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"checksum": None}))
    assert refusal(copy).what == "checksum"


def test_onnxruntime_when_too_old_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    for version, fits in (("1.9.2", False), ("1.24.0", False), ("1.24.1", True), ("2.0.0.dev20270101", True)):
        monkeypatch.setattr(onnxruntime, "__version__", version)
        if fits:
            assert OnnxEngine.load(copy)
        else:
            error = refusal(copy)
            assert (error.what, error.expected, error.found) == ("onnxruntime", "1.24.1 or newer", version)


def test_opset_when_the_graphs_declare_another_is_refused(copy: Path) -> None:
    edit(copy, opset=22)
    error = refusal(copy)
    assert (error.file, error.what, error.expected, error.found) == (str(copy / "text.onnx"), "opset", "22", "23")


def test_tokenizer_when_it_knows_more_tokens_than_the_model_is_refused(copy: Path) -> None:
    sizes = json.loads((copy / "manifest.json").read_text())["sizes"]
    edit(copy, sizes=sizes | {"vocab": 49_000})
    error = refusal(copy)
    assert (error.file, error.what) == (str(copy / "tokenizer.json"), "vocabulary")
    assert (error.expected, error.found) == ("at most 49000 tokens", "49152 tokens")


def test_manifest_when_a_field_breaks_the_contract_names_it(copy: Path) -> None:
    path = copy / "manifest.json"
    content = json.loads(path.read_text()) | {"schema_version": "1.0"}
    for broken, what in (
        ({"opset": "many"}, "opset"),
        ({"surprise": 1}, "surprise"),
        ({"tokenizer": "other.json"}, "whole"),
        ({"files": content["files"] | {"../weights.bin": content["files"]["weights.bin"]}}, "whole"),
    ):
        path.write_text(json.dumps({k: v for k, v in content.items() if k != "checksum"} | broken))
        assert refusal(copy).what == what


def test_mismatch_when_it_crosses_a_process_keeps_its_fields() -> None:
    error = pickle.loads(pickle.dumps(ArtifactMismatchError("weights.bin", "size", "2 bytes", "1 bytes")))  # noqa: S301
    assert (error.file, error.what, error.expected, error.found) == ("weights.bin", "size", "2 bytes", "1 bytes")
    assert isinstance(error, ModelArtifactError)


# ---- when files are hashed ------------------------------------------------------------------------------------------


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed."""
    names: list[str] = []
    original = file_check.file_sha256

    def watched(path: Path) -> str:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(file_check, "file_sha256", watched)
    monkeypatch.setattr(manifest, "HASHED_AT_START_BYTES", 1 << 20)  # the tiny weights are to count as large
    return names


def test_large_file_when_known_from_an_earlier_load_is_not_hashed_again(
    copy: Path, tmp_path: Path, hashed: list[str]
) -> None:
    read_manifest(copy, cache_dir=tmp_path / "cache")
    assert {"weights.bin", "tool_set.onnx"} <= set(hashed)
    hashed.clear()
    read_manifest(copy, cache_dir=tmp_path / "cache")
    assert "weights.bin" not in hashed
    assert "tool_set.onnx" in hashed
    hashed.clear()
    read_manifest(copy, "always", cache_dir=tmp_path / "cache")
    read_manifest(copy)  # nowhere to remember it
    assert hashed.count("weights.bin") == 2


def test_large_file_when_altered_after_it_was_verified_is_refused(
    copy: Path, tmp_path: Path, hashed: list[str]
) -> None:
    import os

    weights = copy / "weights.bin"
    read_manifest(copy, cache_dir=tmp_path / "cache")
    before = weights.stat()
    with weights.open("r+b") as file:  # same size, same inode
        file.seek(1000)
        file.write(b"\xff\x00\xff")
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))  # and the same modification time
    assert refusal(copy, cache_dir=tmp_path / "cache").what == "SHA-256"
    assert len(list((tmp_path / "cache" / "verified").iterdir())) > 0


def test_memory_when_a_file_is_replaced_keeps_one_mark_a_file(copy: Path, tmp_path: Path, hashed: list[str]) -> None:
    for _ in range(3):
        read_manifest(copy, cache_dir=tmp_path / "cache")
        data = (copy / "weights.bin").read_bytes()
        (copy / "weights.bin").unlink()
        (copy / "weights.bin").write_bytes(data)
    marks = [path.name.partition("-")[0] for path in (tmp_path / "cache" / "verified").iterdir()]
    assert len(marks) == len(set(marks))
    assert hashed.count("weights.bin") == 3


def test_memory_when_the_folder_cannot_be_written_hashes_every_time(
    copy: Path, tmp_path: Path, hashed: list[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    for _ in range(2):
        read_manifest(copy, cache_dir=tmp_path / "file")
    assert hashed.count("weights.bin") == 2


def test_verification_when_unknown_names_the_choices(exported: Path) -> None:
    with pytest.raises(ValueError, match=r"verify must be one of \('once', 'always'\), got 'never'"):
        OnnxEngine.load(exported, verify="never")  # type: ignore[arg-type]


# ---- the rest of the contract ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", ["exported", "packaged"])
def test_graphs_when_checked_are_clean_and_of_one_opset(directory: str, exported: Path, tmp_path: Path) -> None:
    source = exported if directory == "exported" else shipped.model_dir()
    folder = Path(shutil.copytree(source, tmp_path / "model"))
    assert tomas(["artifacts", "unpack", str(folder)]) == 0  # the checker looks for every file
    entries = read_manifest(folder)
    for name, entry in entries.graphs.items():
        path = folder / entry.file
        onnx.checker.check_model(str(path), full_check=directory == "exported")
        seen = {e.domain: e.version for e in onnx.load(str(path), load_external_data=False).opset_import}
        assert seen == declared_opsets(path), name
        assert seen.pop("") == entries.opset
        assert seen in ({}, {"com.microsoft": 1})


def test_opsets_when_the_file_is_no_graph_say_where(tmp_path: Path) -> None:
    (tmp_path / "cut").write_bytes(b"\x42\x7f")
    with pytest.raises(ValueError, match="beyond the end of the file"):
        declared_opsets(tmp_path / "cut")
    (tmp_path / "endless").write_bytes(b"\xff" * 20)
    with pytest.raises(ValueError, match="does not end"):
        declared_opsets(tmp_path / "endless")
    (tmp_path / "text").write_bytes(b"\x0f")
    with pytest.raises(ValueError, match="wire type"):
        declared_opsets(tmp_path / "text")


@pytest.mark.parametrize("directory", ["exported", "packaged"])
def test_manifest_when_checked_against_the_published_schema_is_valid(directory: str, exported: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    folder = exported if directory == "exported" else shipped.model_dir()
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    schema = json_schema("manifest")
    jsonschema.validate(content, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"surprise": 1}, schema)
    assert "written as zeros" in schema["properties"]["checksum"]["description"]


def test_least_onnxruntime_when_compared_is_what_the_extras_ask_for() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all(extras[extra][0].endswith(f">={LEAST_ONNXRUNTIME}") for extra in ("cpu", "gpu"))


def test_parity_report_when_read_covers_every_output_of_every_graph(exported: Path) -> None:
    report = json.loads((exported / "parity.json").read_text())
    described = read_manifest(exported)
    assert report["fingerprint"] == described.fingerprint
    assert report["training_fingerprint"] == described.training_fingerprint
    assert report["versions"] == described.versions
    for graph, entry in described.graphs.items():
        for output in entry.outputs:
            name = re.sub(r"\.\d+\.", ".", output.name)  # present.3.key: the worst layer is reported
            assert f"{graph}.{name}" in report["relative_error"]


def test_verify_command_when_all_is_well_lists_every_file(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tomas(["artifacts", "verify", str(exported)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in FILES if name != "manifest.json")
    assert "8 graphs load, opset 23" in shown


def test_verify_command_when_a_file_is_altered_exits_2_and_names_it(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(copy / "weights.bin", 1000)
    assert tomas(["artifacts", "verify", str(copy)]) == 2
    assert "weights.bin: SHA-256: expected" in capsys.readouterr().err


def test_verify_command_when_the_manifest_describes_another_interface_exits_2(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graphs = json.loads((copy / "manifest.json").read_text())["graphs"]
    graphs["lm_head"]["inputs"][0]["name"] = "state"
    edit(copy, graphs=graphs)
    assert tomas(["artifacts", "verify", str(copy)]) == 2
    assert re.search(r"lm_head\.onnx: input: expected .*state.*, found .*hidden", capsys.readouterr().err)


# ---- packed layers --------------------------------------------------------------------------------------------------


def test_packed_layers_when_written_beside_the_graphs_are_what_plain_onnxruntime_reads(copy: Path) -> None:
    import onnxruntime

    feeds = {"v_toolaware": np.random.default_rng(0).normal(size=(3, tiny.SIZES["hidden_size"])).astype(np.float32)}
    graph = str(copy / "tool_set.onnx")
    with pytest.raises(Exception, match=r"layers\.bin"):
        onnxruntime.InferenceSession(graph)
    assert tomas(["artifacts", "unpack", str(copy)]) == 0
    plain = onnxruntime.InferenceSession(graph).run(None, feeds)[0]
    np.testing.assert_array_equal(plain, OnnxEngine.load(copy).shortlist_keys(feeds["v_toolaware"]))


def test_packed_layers_when_computed_are_numbers_times_steps(exported: Path) -> None:
    import torch

    from tomas_router.model.packing import pack
    from tomas_router.schema.packed_layers import unpacked_layers

    layers = read_manifest(exported).packed_layers
    assert layers is not None
    assert not (exported / layers.file).exists()
    unpacked = unpacked_layers(exported, layers).view(np.int8)
    assert len(unpacked) == layers.bytes
    for weight in layers.weights:
        matrix_KN = unpacked[weight.offset :][: np.prod(weight.shape)].reshape(weight.shape)
        again = pack(torch.from_numpy(matrix_KN.T.astype(np.float32)))
        np.testing.assert_array_equal(again.product().numpy().T * again.channel_N.numpy(), matrix_KN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": 7}, "must have whole blocks of 7 inputs"),
        ({"bytes": 10}, "must end within 10 bytes of layers.bin"),
        ({"file": "../layers.bin"}, "must be plain"),
        ({"stored_in": "other.bin"}, "must be listed"),
    ],
)
def test_packed_layers_when_the_entry_contradicts_itself_are_refused(
    copy: Path, change: dict[str, Any], message: str
) -> None:
    layers = json.loads((copy / "manifest.json").read_text())["packed_layers"]
    set_unsealed(copy, packed_layers=layers | change)
    assert message in str(refusal(copy))


def test_packed_layers_when_they_reach_beyond_the_stored_file_are_refused(copy: Path) -> None:
    layers = json.loads((copy / "manifest.json").read_text())["packed_layers"]
    layers["weights"][0]["numbers_offset"] = 10**9
    set_unsealed(copy, packed_layers=layers)
    assert "one ends at 1" in str(refusal(copy))


def test_unpack_when_nothing_is_packed_says_so(capsys: pytest.CaptureFixture[str], copy: Path) -> None:
    edit(copy, packed_layers=None)
    assert tomas(["artifacts", "unpack", str(copy)]) == 2
    assert "nothing in it is packed" in capsys.readouterr().err


def test_seal_when_a_file_is_altered_exits_2_and_leaves_the_manifest(copy: Path) -> None:
    before = (copy / "manifest.json").read_bytes()
    flip(copy / "context.onnx", 50)
    assert seal_main([str(copy)]) == 2
    assert (copy / "manifest.json").read_bytes() == before


def test_seal_when_given_a_calibration_writes_it_and_nothing_else(copy: Path, tmp_path: Path) -> None:
    before = read_manifest(copy)
    fitted, path = Calibration(temperature=1.5, end_margin=0.5, match_margin=0.25), tmp_path / "calibration.json"
    path.write_text(json.dumps(asdict(fitted)))
    assert seal_main([str(copy), "--calibration", str(path)]) == 0
    assert OnnxEngine.load(copy).calibration == fitted
    after = read_manifest(copy)
    assert after.calibration == asdict(fitted)
    assert after.model_dump(exclude={"calibration", "checksum"}) == before.model_dump(
        exclude={"calibration", "checksum"}
    )


def test_seal_when_given_known_tools_lists_their_file(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = ToolSpec(name="tool", desc="does it")
    assert seal_main([str(copy), "--known-tools", str(tmp_path)]) == 2
    assert "holds no known_tools.txt" in capsys.readouterr().err
    before = OnnxEngine.load(copy)
    KnownTools.of([tool]).write(tmp_path)
    assert seal_main([str(copy), "--known-tools", str(tmp_path)]) == 0
    engine = OnnxEngine.load(copy)
    assert before.known_tools is None
    assert engine.known_tools is not None
    assert engine.known_tools.know([tool]).all()
    assert engine.fingerprint != before.fingerprint
    (copy / "known_tools.txt").write_text("0" * 16 + "\n")
    with pytest.raises(ArtifactMismatchError, match=r"known_tools\.txt"):
        OnnxEngine.load(copy)


def test_seal_when_given_request_words_lists_their_file(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool = ToolSpec(name="tool", desc="does it")
    assert seal_main([str(copy), "--request-words", str(tmp_path)]) == 2
    assert "holds no request_words.npz" in capsys.readouterr().err
    KnownTools.of([tool], words_of(tool)).write(tmp_path)
    assert seal_main([str(copy), "--known-tools", str(tmp_path)]) == 0
    known = OnnxEngine.load(copy).known_tools
    assert known is not None
    assert known.words is None
    assert seal_main([str(copy), "--request-words", str(tmp_path)]) == 0
    known = OnnxEngine.load(copy).known_tools
    assert known is not None
    assert known.words_of([tool]) is not None
    (copy / "request_words.npz").write_bytes(b"")
    with pytest.raises(ArtifactMismatchError, match=r"request_words\.npz"):
        OnnxEngine.load(copy)


def test_request_words_that_the_manifest_does_not_name_are_not_read(copy: Path, tmp_path: Path) -> None:
    tool = ToolSpec(name="tool", desc="does it")
    KnownTools.of([tool], words_of(tool)).write(tmp_path)
    assert seal_main([str(copy), "--known-tools", str(tmp_path)]) == 0
    words_of(tool).write(copy)
    known = OnnxEngine.load(copy).known_tools
    assert known is not None
    assert known.words is None


def words_of(tool: ToolSpec) -> RequestWords:
    even_H = np.ones(BUCKETS, dtype=np.float32)
    return RequestWords(even_H, [JobWords.of(even_H, 0.0, most=3, least=0.0)], {digest(tool): 0})


def test_known_tools_when_the_checkpoint_has_them_are_exported_and_read_back(tmp_path: Path) -> None:
    tool = ToolSpec(name="tool", desc="does it")
    known = KnownTools.of([tool], words_of(tool))
    checkpoint = replace(tiny.save_tiny_checkpoint(tmp_path / "tied", tiny.TIED), known_tools=known)
    export(checkpoint, tmp_path / "onnx", "none")
    for found in (OnnxEngine.load(tmp_path / "onnx").known_tools, load_artifacts(tmp_path / "onnx").known_tools):
        assert found is not None
        assert found.know([tool]).all()
        assert found.words_of([tool]) is not None


@pytest.mark.parametrize(
    ("content", "reason"),
    [('{"temperature": 1.0}', "expected an object with temperature"), ("{", "Expecting"), ("[]", "expected an object")],
)
def test_seal_when_a_calibration_is_not_one_exits_2_and_leaves_the_manifest(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, reason: str
) -> None:
    before, path = (copy / "manifest.json").read_bytes(), tmp_path / "calibration.json"
    path.write_text(content)
    assert seal_main([str(copy), "--calibration", str(path)]) == 2
    assert reason in capsys.readouterr().err
    path.write_text(json.dumps(asdict(Calibration()) | {"end_margin": float("nan")}))
    assert seal_main([str(copy), "--calibration", str(path)]) == 2
    assert "end_margin must be a finite number, got nan" in capsys.readouterr().err
    assert (copy / "manifest.json").read_bytes() == before


def test_threads_when_nothing_is_said_are_one(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import inspect

    assert inspect.signature(OnnxEngine.load).parameters["intra_op_num_threads"].default == 1
    engine = OnnxEngine.load(exported)
    options = engine._session("backbone").get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert onnx_engine.THREADED


def test_make_export_when_run_rebuilds_artifacts_that_pass_parity_and_verify(recipe: list[str], exported: Path) -> None:
    assert recipe[1:3] == ["-m", "export.onnx"]
    report = json.loads((exported / "parity.json").read_text())
    assert max(report["relative_error"].values()) <= report["tolerance"]["relative_error"]
    assert OnnxEngine.load(exported, verify="always").manifest.quantisation == "packed"
