from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

import pytest

from tomas_router.cli import modules
from tomas_router.cli.main import main


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """A module that reports its arguments, in place of the real one."""
    (tmp_path / "probe_module.py").write_text("import sys\nprint(sys.argv)\nsys.exit(5)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(modules.MODULES, "train", modules.Module("probe_module", "", needs="json", extra="train"))


@pytest.mark.m4
def test_train_when_called_passes_every_option_and_the_exit_code(probe, capsys):
    before = list(sys.argv)
    assert main(["train", "--config", "c.yaml", "--help"]) == 5
    assert capsys.readouterr().out.strip() == "['tomas train', '--config', 'c.yaml', '--help']"
    assert sys.argv == before


@pytest.mark.m4
def test_train_when_torch_is_missing_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr(modules, "find_spec", lambda name: None)
    assert main(["train", "--config", "c.yaml"]) == 2
    assert 'pip install "tomas-router[train]"' in capsys.readouterr().err


@pytest.mark.m4
def test_installed_when_an_import_hook_forbids_the_package_is_false(monkeypatch):
    def forbid(name: str) -> ModuleSpec:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(modules, "find_spec", forbid)
    assert not modules._installed("torch")
