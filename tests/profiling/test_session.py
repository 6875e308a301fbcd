from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from tomas_router import ToolRegistry, load_profiling_matrix
from tomas_router.cli.main import main
from tomas_router.errors import DataValidationError
from tomas_router.profiling.configuration import Configuration
from tomas_router.profiling.results import ProfileMismatchError, Settings, metadata_path, read_profile
from tomas_router.profiling.session import Session
from tomas_router.profiling.target import load_tools

pytestmark = pytest.mark.m0

TARGET = f"{Path(__file__).with_name('tools_to_measure.py')}:tools"


def session(csv: Path, *names: str, sizes=("small",), configurations=(1,), **settings) -> Session:
    tools = [tool for tool in load_tools(TARGET) if tool.name in names]
    given = {
        "target": TARGET,
        "warmup": 0,
        "repeats": 2,
        "timeout_s": 20,
        "headroom": 0.1,
        "min_gain": 0.05,
        **settings,
    }
    return Session(tools, sizes, [Configuration(n) for n in configurations], Settings(**given), csv)


def test_profile_when_measured_is_read_by_planning_without_a_word(tmp_path):
    csv = tmp_path / "new" / "profiling.csv"
    made = session(csv, "wait", "take_memory", sizes=("small", "large"), timeout_s=2)
    steps = list(made.run())
    registry = ToolRegistry.from_tools([tool.spec() for tool in made.tools])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = load_profiling_matrix(csv, registry)
    assert len(steps) == 4
    assert [(r.tool, r.input_size) for r in table.all_rows] == [
        ("wait", "small"),  # the large one takes too long
        ("take_memory", "small"),
        ("take_memory", "large"),
    ]
    assert all(0.2 < row.cpu_mem_gb < 0.4 for row in table.rows("take_memory", "large"))


def test_sizes_when_a_tool_has_no_input_of_one_are_left_out(tmp_path):
    made = session(tmp_path / "p.csv", "take_memory_in_a_child", "count", sizes=("small", "medium", "large"))
    assert [(cell.tool, cell.input_size) for cell in made.cells] == [
        ("count", "small"), ("count", "large"), ("take_memory_in_a_child", "large"),
    ]  # fmt: skip


def test_run_when_repeated_keeps_rows_and_measures_only_what_is_new(tmp_path):
    csv = tmp_path / "p.csv"
    first = [step.measurement for step in session(csv, "count").run()]
    again = list(session(csv, "count", "wait").run())
    assert [step.kept for step in again] == [True, False]
    assert again[0].measurement == first[0]
    assert [m.tool for m in read_profile(metadata_path(csv)).measurements] == ["count", "wait"]


def test_run_when_interrupted_has_saved_every_cell_that_was_done(tmp_path):
    csv = tmp_path / "p.csv"
    running = session(csv, "count", sizes=("small", "large")).run()
    next(running)
    running.close()
    assert [m.input_size for m in read_profile(metadata_path(csv)).measurements] == ["small"]
    assert [step.kept for step in session(csv, "count", sizes=("small", "large")).run()] == [True, False]


@pytest.mark.parametrize(("options", "kept"), [({}, True), ({"retry_failed": True}, False), ({"fresh": True}, False)])
def test_cell_when_it_failed_before_is_measured_again_if_asked(tmp_path, options, kept):
    csv = tmp_path / "p.csv"
    list(session(csv, "refuse").run())
    assert not csv.exists()  # a table without rows could not be read
    assert [step.kept for step in session(csv, "refuse").run(**options)] == [kept]


@pytest.mark.parametrize(("share", "kept"), [(1000, True), (0, False)])
def test_cell_when_it_spread_wider_than_asked_is_measured_again(tmp_path, share, kept):
    csv = tmp_path / "p.csv"
    list(session(csv, "count", repeats=3).run())
    assert [step.kept for step in session(csv, "count", repeats=3).run(retry_spread=share)] == [kept]


def test_run_when_nothing_is_new_leaves_the_files_as_they_are(tmp_path):
    csv = tmp_path / "p.csv"
    list(session(csv, "count").run())
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    list(session(csv, "count").run())
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def test_table_when_gain_or_headroom_change_is_written_anew_without_measuring(tmp_path):
    csv = tmp_path / "p.csv"
    measured = [step.measurement for step in session(csv, "take_memory", configurations=(1, 2), min_gain=1000).run()]
    assert len(csv.read_text().splitlines()) == 2
    again = session(csv, "take_memory", configurations=(1, 2), min_gain=1000, headroom=9)
    assert [step.measurement for step in again.run() if step.kept] == measured
    assert load_profiling_matrix(csv, ToolRegistry.from_tools([t.spec() for t in again.tools])).all_rows == tuple(
        again.rows(measured)
    )
    assert read_profile(metadata_path(csv)).settings.headroom == 9


def test_profile_when_of_another_machine_or_other_settings_is_not_continued(tmp_path):
    csv = tmp_path / "p.csv"
    list(session(csv, "count").run())
    with pytest.raises(ProfileMismatchError, match="measured with repeats 2, now it is 3: choose another --out"):
        next(session(csv, "count", repeats=3).run())
    there = json.loads(metadata_path(csv).read_text())
    there["machine"]["cpu_model"] = "another"
    metadata_path(csv).write_text(json.dumps(there))
    with pytest.raises(ProfileMismatchError, match="measured with cpu_model 'another'"):
        next(session(csv, "count").run())
    assert [step.kept for step in session(csv, "count").run(fresh=True)] == [False]


def test_metadata_when_damaged_lists_what_is_wrong(tmp_path):
    csv = tmp_path / "p.csv"
    list(session(csv, "count").run())
    there = json.loads(metadata_path(csv).read_text())
    there["settings"]["repeats"] = 0
    there["surprise"] = 1
    metadata_path(csv).write_text(json.dumps(there))
    with pytest.raises(DataValidationError) as caught:
        next(session(csv, "count").run())
    assert "p.meta.json: settings.repeats must be >= 1, got 0" in str(caught.value)
    assert "p.meta.json: surprise is unknown" in str(caught.value)


def test_metadata_when_written_names_the_kind_of_machine_and_not_the_machine(tmp_path):
    import platform

    csv = tmp_path / "p.csv"
    list(session(csv, "count").run())
    text = metadata_path(csv).read_text()
    profile = read_profile(metadata_path(csv))
    assert profile.machine.cpu_model
    assert profile.software.packages["numpy"]
    assert "no cgroup" in profile.enforcement["cpu_mem_gb"]
    assert f'"{platform.node()}"' not in text


def test_command_when_all_cells_are_measured_writes_profile_and_registry(tmp_path, capsys):
    csv, tools = tmp_path / "p.csv", tmp_path / "tools.json"
    command = ["profile", TARGET, "--tools", "count", "--sizes", "small", "--configs", "1", "2", "--repeats", "2",
               "--min-gain", "1000", "--out", str(csv), "--registry-out", str(tools)]  # fmt: skip
    assert main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 cells measured, 1 rows in" in said
    assert "1 take more and are not over 100000% faster: no row" in said
    (row,) = load_profiling_matrix(csv, ToolRegistry.from_json(tools)).all_rows
    assert row.cpu_core == 1


def test_command_when_a_tool_fails_says_why_and_returns_4(tmp_path, capsys):
    out = str(tmp_path / "p.csv")
    assert main(["profile", TARGET, "--tools", "count", "refuse", "--sizes", "small", "--out", out]) == 4
    said = " ".join(capsys.readouterr().out.split())
    assert "refuse (small 1 CPU) failed: ValueError: no such thing" in said
    assert "1 of 2 cells measured, 1 rows in" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.py:tools"], "there is no file 'absent.py'"),
        ([TARGET, "--tools", "coutn"], "--tools: 'coutn' is none of count, "),
        ([TARGET, "--configs", "cores=1"], "configuration must be cores, such as 2"),
    ],
)
def test_command_when_asked_wrongly_says_so_and_returns_2(tmp_path, capsys, arguments, message):
    assert main(["profile", *arguments, "--out", str(tmp_path / "p.csv")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
