from __future__ import annotations

import json
from pathlib import Path

import pytest

from tomas_router.cli.main import main
from tomas_router.shipped import profiling_path, registry_path

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.m5

TOOLS = [
    {"name": "make_qr", "desc": "Creates a QR code image for a link."},
    {"name": "create_qr_code", "desc": "Makes a QR code image from a link."},
    {"name": "weather", "desc": "Weather"},
]


@pytest.fixture
def tools_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOMAS_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(TOOLS), encoding="utf-8")
    return path


def test_lint_when_two_tools_do_the_same_says_so(tools_json: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "lint", str(tools_json), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"severity", "kind", "tools", "finding", "advice"} == set(found[0])
    assert any({"make_qr", "create_qr_code"} == set(f["tools"]) and f["kind"] == "same" for f in found)
    assert ("repeats", ["weather"]) in [(f["kind"], f["tools"]) for f in found]


def test_lint_when_strict_fails_on_problems_only(tools_json: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["registry", "lint", str(tools_json), "--strict", "--no-asking"]) == 2
    assert "3 tools, 1 problems, 1 hints" in capsys.readouterr().out
    tools_json.write_text(json.dumps(TOOLS[2:]), encoding="utf-8")
    assert main(["registry", "lint", str(tools_json), "--strict"]) == 0


def test_lint_when_the_shipped_registry_is_read_finds_no_confusable_pair_and_every_profile(
    tools_json: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["registry", "lint", str(registry_path()), "--profiling", str(profiling_path()), "--no-asking", "--json"]
    assert main(argv) == 0
    found = {f["kind"] for f in json.loads(capsys.readouterr().out)}
    assert not found & {"same", "duplicate", "long", "short", "repeats"}


def test_lint_when_the_file_is_malformed_names_it(tools_json: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools_json.write_text('[{"name": "a"}]', encoding="utf-8")
    assert main(["registry", "lint", str(tools_json)]) == 2
    assert "tools.json" in capsys.readouterr().err
