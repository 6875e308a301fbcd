from pathlib import Path

import pytest

from tomas_router.errors import DataValidationError
from tomas_router.schema.findings import DataWarning
from tomas_router.schema.profiling import ProfilingTable, load_profiling_matrix, read_profiling
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m0
HEADER = "tool,input_size,cpu_core,cpu_mem_gb,gpu_sm,gpu_mem_gb,latency_ms\n"
REGISTRY = ToolRegistry.from_tools([{"name": "a", "desc": "A"}])


def write(tmp_path: Path, body: str, header: str = HEADER) -> Path:
    path = tmp_path / "profiling.csv"
    path.write_text(header + body)
    return path


def test_profiling_when_many_cells_are_wrong_lists_each_with_line_field_and_value(tmp_path: Path) -> None:
    path = write(tmp_path, "a,small,1,1,0,0,10\na,huge,-1,,108,8 GB,nan\na,1,1,1,0,0\n")
    with pytest.raises(DataValidationError) as caught:
        ProfilingTable.from_csv(path)
    found = {(f.line, f.field) for f in caught.value.findings}
    names = ("input_size", "cpu_core", "cpu_mem_gb", "gpu_sm", "gpu_mem_gb", "latency_ms")
    assert found == {(3, name) for name in names} | {(4, None)}
    assert "profiling.csv:3: cpu_core must be >= 0, got '-1'" in str(caught.value)


def test_profiling_when_a_tool_is_not_registered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataValidationError, match=r"profiling.csv:2: tool must be a tool of the registry, got 'z'"):
        load_profiling_matrix(write(tmp_path, "z,small,1,1,0,0,10\n"), REGISTRY)


def test_profiling_when_sizes_are_numbers_reads_them_as_buckets(tmp_path: Path) -> None:
    table = load_profiling_matrix(write(tmp_path, "a,0,1,1,0,0,10\na,2,1,1,0,0,30\n"), REGISTRY)
    assert [r.input_size for r in table.rows("a")] == ["small", "large"]
    assert table.matrix("a")[:, 0].tolist() == [0, 2]


def test_profiling_when_a_configuration_repeats_keeps_the_larger_latency_and_warns(tmp_path: Path) -> None:
    path = write(tmp_path, "a,small,1,1,0,0,10\na,small,1,1,0,0,12\n")
    with pytest.warns(DataWarning, match="repeats the configuration of line 2"):
        table = ProfilingTable.from_csv(path)
    assert [r.latency_ms for r in table.rows("a")] == [12]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,small,2000,1,0,0,10", "milli-cores"),
        ("a,small,1,16384,0,0,10", "MiB or bytes"),
        ("a,small,1,1,0.5,1,10", "fraction"),
        ("a,small,1,1,0,2,10", "no SM"),
    ],
)
def test_profiling_when_units_look_wrong_warns_and_converts_nothing(tmp_path: Path, row: str, message: str) -> None:
    rows, findings = read_profiling(write(tmp_path, row + "\n"))
    assert [f.severity for f in findings] == ["warning"]
    assert message in findings[0].message
    assert rows[0].cpu_core == float(row.split(",")[2])


def test_profiling_when_one_latency_is_far_off_warns(tmp_path: Path) -> None:
    body = "".join(f"a,small,{i},1,0,0,10\n" for i in range(1, 5)) + "a,small,9,1,0,0,9999\n"
    rows, findings = read_profiling(write(tmp_path, body))
    assert len(rows) == 5
    assert [f.line for f in findings] == [6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (HEADER, "header but no rows"),
        (HEADER.replace("gpu_sm,", "") + "a,small,1,1,0,10\n", "column gpu_sm is missing"),
        (HEADER.strip() + ",extra\na,small,1,1,0,0,10,5\n", "column 'extra' is unknown"),
    ],
)
def test_profiling_when_the_table_is_malformed_says_how(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataValidationError, match=message):
        ProfilingTable.from_csv(write(tmp_path, "", header=text))


def test_profiling_when_the_file_has_a_bom_and_crlf_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(b"\xef\xbb\xbf" + (HEADER + "a, small ,1,1,0,0,10\n").replace("\n", "\r\n").encode())
    assert len(ProfilingTable.from_csv(path)) == 1


def test_profiling_when_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    table = ProfilingTable.from_csv(write(tmp_path, "a,small,0.5,1.25,10,2,10.1\n"))
    table.to_csv(tmp_path / "again.csv")
    assert ProfilingTable.from_csv(tmp_path / "again.csv").all_rows == table.all_rows
