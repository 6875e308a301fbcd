from pathlib import Path

import pytest

from tomas_router import shipped

pytestmark = pytest.mark.m0


def test_data_dir_when_in_a_checkout_is_the_repository_data() -> None:
    assert shipped.data_dir() == Path(__file__).parents[2] / "data"


def test_data_dir_when_installed_from_a_wheel_is_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_shipped").mkdir()
    monkeypatch.setattr(shipped, "_PACKAGE", tmp_path)
    assert shipped.registry_path() == tmp_path / "_shipped" / "tool_registry" / "tools.json"


@pytest.mark.parametrize("name", ["system_profiling", "idle", "busy", "bursty", "fragmented", "no_gpu"])
def test_timeline_path_when_a_kind_is_named_exists(name: str) -> None:
    assert shipped.timeline_path(name).is_file()
