"""Plans in checkpoints and files that another version of this library wrote."""

from __future__ import annotations

import json
import pickle

import pytest

from tests.schema.test_plan import plan, step
from tomas_router.cli.main import main
from tomas_router.schema.plan import ToolPlan
from tomas_router.schema.plan_versions import PlanVersionError
from tomas_router.schema.validate import read_plan

pytestmark = pytest.mark.m0


def test_plan_when_of_an_older_version_is_migrated() -> None:
    old = plan(step(1, 500), schema_version="1.0")
    read = ToolPlan.model_validate(old)
    assert read.schema_version == "1.1"
    assert (read.steps[0].tool_version, read.steps[0].tool_schema_hash) == (None, None)
    assert ToolPlan.model_validate_json(json.dumps(old), strict=True) == read
    assert old["schema_version"] == "1.0"  # the caller's own is left alone


@pytest.mark.parametrize("version", ["0.9", "2.0", 1.0, None])
def test_plan_when_of_an_unknown_version_is_refused_by_name(version: object) -> None:
    with pytest.raises(PlanVersionError, match=r"schema_version must be one of 1\.0, 1\.1, got") as caught:
        ToolPlan.model_validate(plan(step(1, 500), schema_version=version))
    assert repr(version) in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).found == version  # noqa: S301


def test_plan_file_when_of_an_unknown_version_is_a_finding(tmp_path, capsys) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan(step(1, 500), schema_version="0.9")), encoding="utf-8")
    found, findings = read_plan(path)
    assert found is None
    assert "plan.json: schema_version must be one of" in str(findings[0])
    assert main(["execute", str(path)]) == 2
    assert "got '0.9'" in capsys.readouterr().err
