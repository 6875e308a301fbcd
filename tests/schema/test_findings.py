from multiprocessing.reduction import ForkingPickler
from pickle import loads
from typing import Any

import pytest

from tomas_router.errors import DataValidationError, InfeasibleError
from tomas_router.schema.csv_table import NumberText
from tomas_router.schema.findings import DataWarning, Finding, FindingLog
from tomas_router.schema.plan import Shortfall

pytestmark = pytest.mark.m0


def test_message_when_all_is_known_names_file_line_field_value_and_expectation() -> None:
    log = FindingLog.of("some/where/profiling.csv")
    log.error("must be >= 0", line=17, field="latency_ms", value=-3.2)
    log.error("is empty")
    assert [f.message for f in log.findings] == [
        "profiling.csv:17: latency_ms must be >= 0, got -3.2",
        "profiling.csv: is empty",
    ]


def test_value_when_it_is_text_or_long_is_quoted_and_clipped() -> None:
    log = FindingLog("f")
    for value in ("8 cores", "", "x" * 500, 3, NumberText("1e5"), "1e5"):
        log.error("e", value=value)
    shown = [f.value for f in log.findings]
    assert shown[:2] + shown[3:] == ["'8 cores'", "''", "3", "1e5", "'1e5'"]
    assert shown[2] is not None
    assert len(shown[2]) == 80


def test_finish_when_there_is_an_error_raises_all_errors_and_no_warnings() -> None:
    log = FindingLog("f")
    log.warn("w")
    for i in range(25):
        log.error(f"e{i}")
    with pytest.raises(DataValidationError, match=r"f: e19\n... and 5 more") as caught:
        log.finish()
    assert len(caught.value.findings) == 25


def test_finish_when_there_are_very_many_warnings_shows_twenty_and_their_number() -> None:
    log = FindingLog("f")
    for i in range(30):
        log.warn(f"w{i}")
    with pytest.warns(DataWarning) as caught:
        log.finish()
    assert len(caught) == 21
    assert "10 more warnings" in str(caught[-1].message)


def sent_to_another_process(value: Any) -> Any:
    return loads(bytes(ForkingPickler.dumps(value)))  # noqa: S301 our own bytes


def test_errors_when_sent_to_another_process_keep_what_they_carry() -> None:
    invalid = DataValidationError([Finding("error", "f.csv", 3, "x", None, "is wrong")])
    again = sent_to_another_process(invalid)
    assert (str(again), again.findings) == ("f.csv:3: x is wrong", invalid.findings)
    short = Shortfall(resource="gpu_sm", at_ms=0, needed=2, available=1, unit="%")
    infeasible = sent_to_another_process(InfeasibleError("no GPU", [short]))
    assert (infeasible.reason, infeasible.shortfalls) == ("no GPU", (short,))
