"""What a user installs."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
TORCH_SIDE = {
    "torch",
    "transformers",
    "optimum",
    "optimum-onnx",
    "onnx",
    "onnxscript",
    "peft",
    "accelerate",
    "langgraph",
}
MAX_WHEEL_BYTES = 100_000_000  # the default upload limit of package indexes


def package_names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower() for requirement in requirements}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel_names(wheel) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_wheel_when_built_carries_data_model_and_types(wheel_names):
    assert {
        "tomas_router/py.typed",
        "tomas_router/_shipped/tool_registry/tools.json",
        "tomas_router/_shipped/profiling/profiling.csv",
        "tomas_router/_shipped/input/system_profiling.csv",
        "tomas_router/models/embedded/manifest.json",
    } <= set(wheel_names)


def test_wheel_when_built_holds_one_package_and_no_training_data(wheel_names):
    assert {name.partition("/")[0].partition("-")[0] for name in wheel_names} == {"tomas_router"}
    assert not [name for name in wheel_names if "instructions" in name or name.endswith((".pt", ".safetensors"))]


def test_wheel_when_built_carries_licence_and_notice(wheel_names):
    assert [name for name in wheel_names if name.endswith("licenses/LICENSE")]
    assert [name for name in wheel_names if name.endswith("licenses/NOTICE")]


def test_wheel_when_built_stays_below_the_upload_limit(wheel):
    assert wheel.stat().st_size < MAX_WHEEL_BYTES


def test_wheel_when_unpacked_elsewhere_reads_its_own_data(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "from tomas_router import ProfilingTable, SystemTimeline, ToolRegistry, shipped\n"
        "registry = ToolRegistry.from_json(shipped.registry_path())\n"
        "ProfilingTable.from_csv(shipped.profiling_path(), registry)\n"
        "SystemTimeline.from_csv(shipped.timeline_path())\n"
        "print(shipped.data_dir())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "tomas_router" / "_shipped")


def test_base_and_cpu_when_installed_bring_nothing_of_the_torch_side():
    installed = package_names(PROJECT["dependencies"]) | package_names(EXTRAS["cpu"]) | package_names(EXTRAS["gpu"])
    assert not installed & TORCH_SIDE


def test_cpu_and_gpu_when_compared_bring_one_onnx_runtime_each():
    assert package_names(EXTRAS["cpu"]) == {"onnxruntime"}
    assert package_names(EXTRAS["gpu"]) == {"onnxruntime-gpu"}
    assert EXTRAS["cpu"][0] in EXTRAS["langgraph"]
    assert EXTRAS["gpu"][0] in EXTRAS["langgraph-gpu"]
    for name, requirements in EXTRAS.items():
        if name not in ("cpu", "gpu", "langgraph", "langgraph-gpu"):
            assert not package_names(requirements) & {"onnxruntime", "onnxruntime-gpu"}, name


def test_agents_when_on_cpu_and_gpu_differ_in_the_onnx_runtime_only():
    both = package_names(EXTRAS["langgraph"]) ^ package_names(EXTRAS["langgraph-gpu"])
    assert both == {"onnxruntime", "onnxruntime-gpu"}


def test_constraints_when_read_pin_every_direct_dependency():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    wanted = package_names(PROJECT["dependencies"]).union(*map(package_names, EXTRAS.values()))
    assert wanted <= {name.lower() for name in pins}


def test_version_when_installed_is_the_one_of_the_package():
    import tomas_router

    assert "version" in PROJECT["dynamic"]
    assert metadata("tomas-router")["Version"] == tomas_router.__version__


def test_changelog_when_read_begins_with_this_version_or_unreleased():
    import tomas_router

    first = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert first is not None
    assert first[1] in ("Unreleased", tomas_router.__version__)
