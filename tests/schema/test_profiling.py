import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomas_router.errors import DataValidationError
from tomas_router.schema.findings import DataWarning
from tomas_router.schema.profiling import SIZES, ProfileRow, ProfilingTable, load_profiling_matrix, read_profiling
from tomas_router.schema.registry import ToolRegistry

pytestmark = pytest.mark.m0
HEADER = "tool,input_size,cpu_core,cpu_mem_gb,gpu_sm,gpu_mem_gb,latency_ms\n"
REGISTRY = ToolRegistry.from_tools([{"name": "a", "desc": "A"}])


def write(tmp_path: Path, body: str, header: str = HEADER) -> Path:
    path = tmp_path / "profiling.csv"
    path.write_bytes((header + body).encode())
    return path


def test_profiling_when_many_cells_are_wrong_lists_each_with_line_field_and_value(tmp_path: Path) -> None:
    path = write(tmp_path, "a,small,1,1,0,0,1000\na,huge,-1,,108,8 GB,nan\n\na,1,1,1,0,0\n,0,1,1,0,0,0\n")
    with pytest.raises(DataValidationError) as caught:
        ProfilingTable.from_csv(path)
    assert str(caught.value).splitlines() == [
        "profiling.csv:3: input_size must be small, medium or large (or 0, 1, 2), got 'huge'",
        "profiling.csv:3: cpu_core must be >= 0, got -1",
        "profiling.csv:3: cpu_mem_gb must be a number; a missing value has no safe default, got ''",
        "profiling.csv:3: gpu_sm must be a percentage of one GPU, 0 to 100 (an SM count is converted with "
        "100 * sm / total), got 108",
        "profiling.csv:3: gpu_mem_gb must be a plain number without a unit, got '8 GB'",
        "profiling.csv:3: latency_ms must be finite, got 'nan'",
        "profiling.csv:5: must have 7 cells, got 6",
        "profiling.csv:6: tool must not be empty",
        "profiling.csv:6: latency_ms must be > 0; no run takes no time, got 0",
    ]


@pytest.mark.parametrize("text", ["1_000", "1e400", "inf", "0x10", "1,5", "１", "--1", "1e13"])
def test_profiling_when_a_number_is_written_in_another_way_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataValidationError, match=r"profiling.csv:2: cpu_core must be"):
        ProfilingTable.from_csv(write(tmp_path, f'a,small,"{text}",1,0,0,1000\n'))


def test_profiling_when_a_tool_is_not_registered_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataValidationError, match=r"profiling.csv:2: tool must be a tool of the registry, got 'z'"):
        load_profiling_matrix(write(tmp_path, "z,small,1,1,0,0,1000\n"), REGISTRY)


def test_profiling_when_sizes_are_numbers_reads_them_as_buckets(tmp_path: Path) -> None:
    table = load_profiling_matrix(write(tmp_path, "a,0,1,1,0,0,1000\na,2,1,1,0,0,3000\na,1,1,1,0,0,200\n"), REGISTRY)
    assert [r.input_size for r in table.rows("a")] == ["small", "large", "medium"]
    assert table.matrix("a")[:, 0].tolist() == [0, 2, 1]
    assert [r.latency_ms for r in table.rows("a", "large")] == [3000]
    assert table.rows("b") == table.rows("b", "small") == ()


def test_profiling_when_a_row_repeats_warns_and_the_first_wins(tmp_path: Path) -> None:
    path = write(tmp_path, "a,small,1,1,0,0,1000\na,small,2,1,0,0,500\na,small,1.0,1,0,0,1000\n")
    with pytest.warns(DataWarning, match=r"profiling.csv:4: is the same row as line 2; it is left out"):
        table = ProfilingTable.from_csv(path)
    assert [r.cpu_core for r in table.rows("a")] == [1, 2]


@pytest.mark.parametrize("latencies", [(1000, 1200), (1200, 1000)])
def test_profiling_when_a_configuration_has_two_latencies_keeps_the_larger_and_warns(
    tmp_path: Path, latencies: tuple[int, int]
) -> None:
    path = write(tmp_path, "".join(f"a,small,1,1,0,0,{latency}\n" for latency in latencies) + "a,small,2,1,0,0,9\n")
    with pytest.warns(DataWarning, match=r"profiling.csv:3: latency_ms differs from line 2"):
        table = ProfilingTable.from_csv(path)
    assert [r.latency_ms for r in table.rows("a")] == [1200, 9]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,small,2000,1,0,0,1000", "cpu_core looks like milli-cores; vCPU are expected, got 2000"),
        ("a,small,1,16384,0,0,1000", "cpu_mem_gb looks like MiB"),
        ("a,small,1,1,10,8192,1000", "gpu_mem_gb looks like MiB"),
        ("a,small,1,8.5e9,0,0,1000", "cpu_mem_gb looks like bytes"),
        ("a,small,1,1,0.5,1,1000", "gpu_sm looks like a fraction"),
        ("a,small,1,1,0,2,1000", "gpu_sm is 0 although gpu_mem_gb is not"),
        ("a,small,1,1,20,0,1000", "gpu_mem_gb is 0 although gpu_sm is not"),
    ],
)
def test_profiling_when_units_look_wrong_warns_and_converts_nothing(tmp_path: Path, row: str, message: str) -> None:
    rows, findings = read_profiling(write(tmp_path, "a,medium,1,1,0,0,900\n" + row + "\n"))
    assert [(f.severity, f.line) for f in findings] == [("warning", 3)]
    assert message in findings[0].message
    assert [getattr(rows[1], name) for name in HEADER.strip().split(",")[2:]] == [float(x) for x in row.split(",")[2:]]


def test_profiling_when_latencies_look_like_seconds_warns(tmp_path: Path) -> None:
    rows, findings = read_profiling(write(tmp_path, "".join(f"a,{i},1,1,0,0,{2.5 + i}\n" for i in range(3))))
    assert [f.message for f in findings] == [
        "profiling.csv:4: latency_ms looks like seconds; milliseconds are expected, got 4.5"
    ]
    assert rows[2].latency_ms == 4.5


@pytest.mark.parametrize(("latency", "side"), [(51_000, "over"), (19, "under")])
def test_profiling_when_one_latency_is_far_off_warns_and_keeps_it(tmp_path: Path, latency: int, side: str) -> None:
    body = "".join(f"a,small,{i},1,0,0,1000\n" for i in range(1, 5)) + f"a,small,9,1,0,0,{latency}\n"
    rows, findings = read_profiling(write(tmp_path, body))
    assert len(rows) == 5
    assert [(f.line, f.severity) for f in findings] == [(6, "warning")]
    assert f"is {side} the median of a, small (1000) by more than 50 times" in findings[0].message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; expected the header tool,"),
        ("\n \n", "is empty"),
        (HEADER, "header but no rows"),
        (HEADER.replace("gpu_sm,", "") + "a,small,1,1,0,1000\n", "profiling.csv:1: column gpu_sm is missing"),
        (HEADER.strip() + ",extra\na,small,1,1,0,0,1000,5\n", "column 'extra' is unknown"),
        (HEADER.strip() + ",tool\na,small,1,1,0,0,1000,a\n", "column tool must not repeat"),
        (HEADER.replace(",", ";") + "a;small;1;1;0;0;1000\n", "must separate columns with commas"),
    ],
)
def test_profiling_when_the_table_is_malformed_says_how(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataValidationError, match=message):
        ProfilingTable.from_csv(write(tmp_path, "", header=text))


def test_profiling_when_the_file_is_not_utf8_or_missing_says_so(tmp_path: Path) -> None:
    path = tmp_path / "profiling.csv"
    path.write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(DataValidationError, match="must be UTF-8 text"):
        ProfilingTable.from_csv(path)
    with pytest.raises(DataValidationError, match=r"none.csv: cannot be read: No such file"):
        ProfilingTable.from_csv(tmp_path / "none.csv")


def test_profiling_when_the_file_has_a_bom_crlf_blank_lines_and_quotes_is_read(tmp_path: Path) -> None:
    text = "\ufeff\n" + HEADER + '"a, the\nfirst", small ,1,1,0,0,1000\n\nb,small,1,1,0,0,x\n'
    rows, findings = read_profiling(write(tmp_path, "", header=text.replace("\n", "\r\n")))
    assert [r.tool for r in rows] == ["a, the\r\nfirst"]
    assert [f.line for f in findings] == [6]


def test_profiling_rows_when_dictionaries_are_wrong_lists_all() -> None:
    good = {"tool": "a", "input_size": "small", "cpu_core": 1, "cpu_mem_gb": 1, "gpu_sm": 0, "gpu_mem_gb": 0}
    with pytest.raises(DataValidationError) as caught:
        ProfilingTable.from_rows([good, good | {"latency_ms": 0}, good | {"latency_ms": float("inf"), "gpu_sm": 101}])
    assert [f.field for f in caught.value.findings] == [
        "rows[0].latency_ms", "rows[1].latency_ms", "rows[2].gpu_sm", "rows[2].latency_ms",
    ]  # fmt: skip
    assert len(ProfilingTable.from_rows([])) == 0


amounts = st.floats(0, 100, allow_subnormal=False)
profile_rows = st.builds(
    ProfileRow,
    tool=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5),
    input_size=st.sampled_from(SIZES),
    cpu_core=amounts, cpu_mem_gb=amounts, gpu_sm=amounts, gpu_mem_gb=amounts,
    latency_ms=st.floats(1e-3, 1e9),
)  # fmt: skip


@given(st.lists(profile_rows, min_size=1, max_size=8, unique_by=lambda row: (row.tool, row.input_size, row.config)))
def test_profiling_law_what_is_saved_is_loaded_to_the_last_digit(rows: list[ProfileRow]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.csv"
        ProfilingTable(rows).to_csv(path)
        assert read_profiling(path)[0] == rows
