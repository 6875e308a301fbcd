from __future__ import annotations

import json

import pytest

from tomas_router.cli.main import main

pytestmark = pytest.mark.m0


@pytest.mark.parametrize(
    ("contract", "word"),
    [
        ("plan", "steps"),
        ("registry", "ToolSpec"),
        ("request", "instruction"),
        ("profiling", "latency_ms"),
        ("manifest", "least_onnxruntime"),
    ],
)
def test_schema_when_asked_is_json_schema(contract, word, capsys):
    assert main(["schema", contract]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["$schema"].startswith("https://json-schema.org/")
    assert word in text
