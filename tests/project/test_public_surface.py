"""What `import tomas_router` gives, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tomas_router


def test_import_when_fresh_loads_neither_numpy_nor_a_runtime():
    code = (
        "import sys, tomas_router; "
        "print(sorted({'numpy', 'pydantic', 'onnxruntime', 'tokenizers', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(tomas_router.__all__))
def test_public_name_when_asked_for_exists(name):
    assert getattr(tomas_router, name) is not None
    assert name in dir(tomas_router)


def test_unknown_name_when_asked_for_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Router'"):
        _ = tomas_router.Router


@pytest.mark.m0
def test_loaders_when_imported_are_public():
    from tomas_router import SystemTimeline, load_profiling_matrix, load_tool_registry

    assert callable(load_tool_registry)
    assert callable(load_profiling_matrix)
    assert callable(SystemTimeline.from_csv)


@pytest.mark.m3
def test_allocate_when_imported_from_the_planner_is_the_allocator():
    from tomas_router.planner import allocate
    from tomas_router.planner.allocator import allocate as home

    assert allocate is home
