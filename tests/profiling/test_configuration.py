from __future__ import annotations

import pytest

from tomas_router.profiling.configuration import Configuration, parse_configuration
from tomas_router.profiling.tool import ProfiledToolError

pytestmark = pytest.mark.m0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", Configuration(2)),
        ("cpu_core=4,cpu_mem_gb=0.5", Configuration(4, 0.5)),
        ("gpu_sm=50", Configuration(1, None, 50)),
    ],
)
def test_configuration_when_written_out_reads_back(text, expected):
    assert parse_configuration(text) == expected
    assert parse_configuration(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two", "configuration must be cores, such as 2, or .*, got 'two'"),
        ("cores=2", "got 'cores=2'"),
        ("cpu_core=1,cpu_core=2", "configuration must be"),
        ("cpu_core=two", "cpu_core must be a number, got 'two'"),
        ("cpu_core=0.5", "cpu_core must be whole, got 0.5"),
        ("0", "cpu_core must be >= 1, got 0"),
        ("cpu_mem_gb=0", "cpu_mem_gb must be > 0 and finite, got 0.0"),
        ("cpu_mem_gb=nan", "cpu_mem_gb must be > 0 and finite, got nan"),
        ("cpu_core=nan", "cpu_core must be whole"),
        ("cpu_core=inf", "cpu_core must be whole"),
        ("gpu_sm=108", "gpu_sm must be from 0 to 100, got 108"),
    ],
)
def test_configuration_when_wrong_says_what_was_expected(text, message):
    with pytest.raises(ProfiledToolError, match=message):
        parse_configuration(text)
