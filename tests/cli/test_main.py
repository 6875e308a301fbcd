from __future__ import annotations

import subprocess
import sys

import pytest

from tomas_router import __version__
from tomas_router.cli.main import build_parser, main


def test_help_when_asked_lists_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for command in ("plan", "execute", "ledger", "validate", "schema", "train", "eval", "demo"):
        assert f"\n    {command} " in text


def test_version_when_asked_is_the_package_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"tomas-router {__version__}"


def test_start_when_only_parsing_loads_nothing_heavy():
    code = (
        "import sys; from tomas_router.cli.main import build_parser; build_parser();"
        "heavy = {'numpy', 'pydantic', 'rich', 'onnxruntime', 'tokenizers', 'torch'} & set(sys.modules);"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("arguments", [[], ["plam"], ["plan"], ["plan", "text", "--links", "sideways"]])
def test_main_when_arguments_are_wrong_exits_with_bad_input(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: tomas" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["plan", "a", "--batch", "b.jsonl"], "TEXT or --batch"),
        (["plan", "--batch", "b.jsonl"], "--out belong together"),
        (["plan", "a", "--out", "b.jsonl"], "--out belong together"),
        (["plan", "a", "--candidates", " , "], "at least one tool name"),
    ],
)
def test_plan_when_options_contradict_says_which(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_parser_when_built_knows_every_option_of_the_contract():
    options = build_parser()._subparsers._group_actions[0].choices["plan"]._option_string_actions
    files = {"--registry", "--profiling", "--timeline", "--model", "--batch", "--out"}
    assert files | {"--tail", "--horizon-ms", "--explain", "--json", "--candidates", "--num-steps"} <= set(options)
