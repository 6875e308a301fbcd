"""Planning works where torch, transformers and langgraph cannot be imported.

Runs twice: in an environment in which they are not installed, and, in the full environment, behind an import hook that
raises (``no_torch/sitecustomize.py``). Each command is a process of its own, as a user would start it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tomas_router import shipped
from tomas_router.schema.plan import ToolPlan

pytestmark = pytest.mark.m5

NO_TORCH = Path(__file__).parent / "no_torch"
REQUEST = "Transcribe the recording of the meeting and summarise the transcript."
BLOCKED = ("torch", "transformers", "langgraph", "onnx", "optimum")


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(NO_TORCH), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)


def tomas(*arguments: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "tomas_router.cli", *arguments)


@pytest.fixture(scope="module")
def plan_json() -> str:
    done = tomas("plan", REQUEST, "--json")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", BLOCKED)
def test_environment_when_the_torch_side_is_imported_raises(package):
    assert "ModuleNotFoundError" in python("-c", f"import {package}").stderr


def test_plan_when_torch_cannot_be_imported_is_valid(plan_json):
    plan = ToolPlan.model_validate_json(plan_json)
    assert plan.status == "planned"


def test_plan_when_two_jobs_are_joined_by_and_has_two_steps(plan_json):
    assert len(ToolPlan.model_validate_json(plan_json).steps) >= 2


def test_plan_when_one_job_follows_another_has_two_steps_in_order():
    done = python("-m", "tomas_router.cli", "plan", "Transcribe the meeting, then summarise the transcript.", "--json")
    first, second = ToolPlan.model_validate_json(done.stdout).steps
    assert (first.tool_name.split("_")[0], second.tool_name.split("_")[0]) == ("transcribe", "summarize")
    assert second.depends_on == (first.id,)


def test_library_when_torch_cannot_be_imported_plans():
    done = python("-c", f"from tomas_router import Planner; print(Planner.load().plan({REQUEST!r}).status)")
    assert done.stdout.strip() == "planned", done.stderr


def test_every_torch_free_module_when_imported_needs_no_torch():
    code = (
        "import importlib, pkgutil, tomas_router\n"
        "torch_side = ('encoders', 'model', 'training', 'engines.torch_engine', 'langgraph')\n"
        "optimum = ('bound_session', 'optimum_engine', 'optimum_files', 'ort_backbone', 'widened')\n"
        "torch_side += tuple('engines.' + name for name in optimum)\n"
        "skip = tuple('tomas_router.' + name for name in torch_side)\n"
        "walk = pkgutil.walk_packages(tomas_router.__path__, 'tomas_router.', onerror=lambda name: None)\n"
        "names = [m.name for m in walk if not (m.name + '.').startswith(tuple(s + '.' for s in skip))]\n"
        "for name in names:\n"
        "    if not name.endswith('__main__'):\n"
        "        importlib.import_module(name)\n"
        "print(len(names))\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30


def test_execute_when_torch_cannot_be_imported_runs_the_plan(plan_json, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(plan_json, encoding="utf-8")
    done = tomas("execute", str(path), "--executor", "stub")
    assert done.returncode == 0, done.stderr
    assert json.loads(plan_json)["steps"][0]["tool_name"] in done.stdout


def test_demo_when_torch_cannot_be_imported_shows_three_valid_plans():
    done = tomas("demo")
    assert done.returncode == 0, done.stderr
    assert "valid: 3 plans" in done.stdout


def test_validate_when_torch_cannot_be_imported_checks_the_shipped_data():
    assert tomas("validate").returncode == 0


def test_train_when_torch_cannot_be_imported_says_what_to_install():
    done = tomas("train", "--config", "configs/embedded.yaml")
    assert done.returncode == 2
    assert 'pip install "tomas-router[train]"' in done.stderr


def test_curve_when_the_gpu_is_missing_gives_a_plan_without_one():
    done = tomas("plan", REQUEST, "--timeline", str(shipped.timeline_path("no_gpu")), "--json")
    assert done.returncode == 0, done.stderr
    configs = [step.resource_config for step in ToolPlan.model_validate_json(done.stdout).steps]
    assert all(config is not None and config.gpu_sm == 0 and config.gpu_mem_gb == 0 for config in configs)
