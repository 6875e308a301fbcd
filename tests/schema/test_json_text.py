import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomas_router.schema.json_text import element_lines, parse_json

pytestmark = pytest.mark.m0

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab]}[{,\n", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(values)
def test_parse_law_what_python_writes_is_read_back(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@given(st.lists(values, max_size=6), st.sampled_from([None, 0, 2]))
def test_element_lines_law_each_element_begins_on_its_line(elements: list[Any], indent: int | None) -> None:
    text = "\n" + json.dumps({"other": [1, "]"], "tools": elements}, indent=indent)
    starts = [text.splitlines(keepends=True)[line - 1 :] for line in element_lines(text, "tools")]
    assert len(starts) == len(elements)
    if indent is not None:  # one element a line: decoding from there gives it back
        decoded = [json.JSONDecoder().raw_decode("".join(rest).lstrip())[0] for rest in starts]
        assert decoded == elements


def test_element_lines_when_the_list_is_the_document_counts_from_one() -> None:
    assert element_lines('[{"a": [\n1]}\n,\n 2, 3]') == [1, 4, 4]
    assert element_lines(" [ ] ") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": NaN}', "NaN is not a JSON value"),
        ("[-Infinity]", "-Infinity is not"),
        ('{"a": 1, "a": null}', "key 'a' repeats"),
        (r'"\ud83d"', "surrogate"),
        ("[" * 100_000, "nested too deeply"),
        ("[1,]", "line 1 column"),
    ],
)
def test_parse_when_the_text_is_no_standard_json_says_why(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)


def test_parse_when_a_surrogate_pair_is_whole_reads_the_character() -> None:
    assert parse_json(r'"\ud83d\ude00"') == "😀"
