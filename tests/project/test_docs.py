"""Documentation that does not lie: links resolve, commands parse, milestones have tests."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tomas_router.cli.main import build_parser
from tomas_router.cli.modules import MODULES

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
MILESTONES = ("m0", "m1", "m2", "m3", "m4", "m5")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_when_relative_lead_to_files(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if not (page.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_when_written_out_parse(page):
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:bash|console|sh)\n(.*?)```", text, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("tomas ")]
    for line in lines:
        words = shlex.split(line.partition(">")[0], comments=True)[1:]
        if words[0] not in MODULES:
            build_parser().parse_args(words)


def test_make_targets_when_mentioned_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE))
    assert {"demo", "test", "check", "fmt", "export", "bench", "train", "help"} <= targets
    for page in PAGES:
        mentioned = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE))
        assert mentioned <= targets, page


def test_extras_when_mentioned_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sources = [*PAGES, *(ROOT / "tomas_router").rglob("*.py"), *(ROOT / "export").rglob("*.py")]
    for source in sources:
        for group in re.findall(r"(?:tomas-router|\.)\[([a-z,]+)\]", source.read_text(encoding="utf-8")):
            assert set(group.split(",")) <= set(project["optional-dependencies"]), source


@pytest.mark.parametrize("milestone", MILESTONES)
def test_milestone_when_listed_has_tests_and_a_row_in_the_origin_page(milestone):
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    assert any(f"pytest.mark.{milestone}" in text for text in tests)
    assert f"| `{milestone}` |" in (ROOT / "docs" / "origin.md").read_text(encoding="utf-8")


def test_origin_when_read_maps_all_three_scripts():
    text = (ROOT / "docs" / "origin.md").read_text(encoding="utf-8")
    for script in ("script/train.py", "script/inference.py", "src/main.py"):
        assert f"| `{script}` |" in text


def test_decisions_when_listed_are_all_in_the_index():
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert all(page.name in index for page in folder.glob("*.md") if page.name != "README.md")
