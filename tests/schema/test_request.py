from pathlib import Path
from typing import Any

import pytest

from tomas_router.errors import DataValidationError
from tomas_router.schema.request import iter_requests, load_requests, parse_request, read_requests

pytestmark = pytest.mark.m0


def write(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_request_when_it_is_only_an_instruction_has_defaults() -> None:
    request = parse_request("do it")
    assert (request.links, request.candidates, request.num_steps) == ("dataflow", None, None)
    assert parse_request(request) is request


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("instruction", " ", "white space"),
        ("instruction", "\ud800", "unable to parse raw data as a unicode string"),
        ("instruction", "x" * 20_001, "at most 20000"),
        ("candidates", [], "at least one tool"),
        ("candidates", ["a", "a"], "must not repeat"),
        ("num_steps", 0, "must be >= 1, got 0"),
        ("num_steps", "3", "must be a valid integer, got '3'"),
        ("num_steps", True, "must be a valid integer, got True"),
        ("links", "sideways", "must be 'dataflow' or 'order', got 'sideways'"),
        ("input_size", "huge", "'small', 'medium' or 'large'"),
        ("deadline_ms", 0, "must be > 0"),
        ("attachments", [{"name": "a", "media_type": "mp4", "bytes": 1}], "pattern"),
        ("steps", 3, "steps is unknown, got 3"),
    ],
)
def test_request_when_a_field_is_wrong_names_it(field: str, value: Any, message: str) -> None:
    with pytest.raises(DataValidationError) as caught:
        parse_request({"instruction": "x", field: value})
    assert [str(f.field).split("[")[0] for f in caught.value.findings] == [field]
    assert message in str(caught.value)


def test_request_when_several_fields_are_wrong_lists_all() -> None:
    with pytest.raises(DataValidationError) as caught:
        parse_request({"num_steps": 0, "colour": 1, "attachments": [{"name": "a", "media_type": "a/b", "bytes": -1}]})
    assert {f.field for f in caught.value.findings} == {"instruction", "num_steps", "colour", "attachments[0].bytes"}


def test_requests_file_when_rows_are_wrong_names_file_and_line(tmp_path: Path) -> None:
    rows = ('{"id":"1","instruction":"x"}', "not json", "", '{"id":"1","instruction":"y"}', '{"id":"2","text":"z"}')
    with pytest.raises(DataValidationError) as caught:
        load_requests(write(tmp_path, *rows))
    assert [(f.line, f.field) for f in caught.value.findings] == [
        (2, None), (4, "id"), (5, "instruction"), (5, "text"),
    ]  # fmt: skip
    assert "requests.jsonl:4: id must be unique, but line 1 has the same, got '1'" in str(caught.value)


def test_requests_file_when_a_row_has_several_faults_lists_all_of_them(tmp_path: Path) -> None:
    row = '{"instruction": "x", "num_steps": -1, "candidates": ["a", "q"], "colour": 1}'
    _, findings = read_requests(write(tmp_path, row), known={"a"})
    assert {(f.line, f.field) for f in findings} == {
        (1, "num_steps"), (1, "colour"), (1, "id"), (1, "candidates"),
    }  # fmt: skip


def test_requests_file_when_text_holds_a_unicode_line_separator_stays_one_row(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    text = '\ufeff{"id":"1","instruction":"x\u2028y\u0085z"}\r\n\r\n{"id":"2","instruction":"b"}\r\n'
    path.write_bytes(text.encode())
    assert [r.instruction for r in load_requests(path)] == ["x\u2028y\u0085z", "b"]


def test_iter_requests_when_any_row_is_wrong_raises_before_the_first_is_handed_out(tmp_path: Path) -> None:
    good = '{"id":"1","instruction":"x","candidates":["a"],"num_steps":2,"links":"order"}'
    assert [r.id for r in iter_requests(write(tmp_path, good), known={"a"})] == ["1"]
    with pytest.raises(DataValidationError, match=r"requests.jsonl:2: colour is unknown"):
        iter_requests(write(tmp_path, good, '{"id":"2","instruction":"x","colour":1}'))


@pytest.mark.parametrize(("content", "message"), [(b"\n \n", "holds no request"), (b"\xff\xfe\x00", "UTF-8")])
def test_requests_file_when_it_holds_nothing_readable_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataValidationError, match=message):
        load_requests(path)
    with pytest.raises(DataValidationError, match=r"nowhere.jsonl: cannot be read: No such file"):
        load_requests(tmp_path / "nowhere.jsonl")
