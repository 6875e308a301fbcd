"""Completed calls are remembered by every ledger; each test runs over all of them."""

from __future__ import annotations

import pickle
import sqlite3
from pathlib import Path

import pytest

from tests.runtime.ledgers import KINDS, HandClock
from tomas_router.runtime.completions import (
    KEEP_COMPLETIONS_MS,
    MAX_RESULT_BYTES,
    CallKey,
    Completion,
    Completions,
    NotRecordableError,
)
from tomas_router.runtime.ledger_errors import LedgerFileError
from tomas_router.runtime.sqlite_ledger import SqliteLedger

KEY = CallKey.of("thread", "call", "ocr", {"path": "a"})


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> Completions:
    made = KINDS[request.param](tmp_path, clock)
    assert isinstance(made, Completions)
    return made


def test_call_when_completed_is_answered_with_what_was_recorded(ledger, clock):
    result = {"content": ["Grüße", 1, None, {"x": 0.5}], "status": "success"}
    assert ledger.completion(KEY) is None
    ledger.complete(KEY, "ocr", result)
    assert ledger.completion(KEY) == Completion("ocr", result, clock.now_ms)


@pytest.mark.parametrize(
    "other",
    [
        CallKey.of("another thread", "call", "ocr", {"path": "a"}),
        CallKey.of("thread", "another call", "ocr", {"path": "a"}),
        CallKey.of("thread", "call", "ocr", {"path": "b"}),
        CallKey.of("thread", "call", "another tool", {"path": "a"}),
    ],
)
def test_call_when_anything_differs_is_another_one(ledger, other):
    ledger.complete(KEY, "ocr", "done")
    assert ledger.completion(other) is None
    assert other.idempotency_key != KEY.idempotency_key


def test_call_when_arguments_stand_in_another_order_is_the_same():
    assert CallKey.of("t", "c", "f", {"a": 1, "b": 2}) == CallKey.of("t", "c", "f", {"b": 2, "a": 1})


def test_call_when_recorded_again_keeps_the_first_record(ledger):
    ledger.complete(KEY, "ocr", "first")
    ledger.complete(KEY, "ocr", "second")
    assert ledger.completion(KEY).result == "first"


def test_completion_when_old_is_forgotten(ledger, clock):
    ledger.complete(KEY, "ocr", "done")
    clock.now_ms += KEEP_COMPLETIONS_MS
    assert ledger.completion(KEY) is not None
    clock.now_ms += 1
    assert ledger.completion(KEY) is None
    ledger.complete(KEY, "ocr", "anew")
    assert ledger.completion(KEY).result == "anew"


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (object(), "must be plain JSON"),
        (float("nan"), "must be plain JSON"),
        ((1, 2), "tuples or keys of numbers"),
        ({1: "x"}, "tuples or keys of numbers"),
        ("x" * MAX_RESULT_BYTES, f"at most {MAX_RESULT_BYTES} bytes"),
    ],
)
def test_result_when_it_would_not_come_back_as_it_is_is_refused_by_name(ledger, result, text):
    with pytest.raises(NotRecordableError, match=f"ocr: .*{text}"):
        ledger.complete(KEY, "ocr", result)
    assert ledger.completion(KEY) is None


def test_completion_when_recorded_moves_no_version(ledger):
    before = ledger.snapshot().version
    ledger.complete(KEY, "ocr", "done")
    assert ledger.snapshot().version == before


def test_completion_when_the_file_is_opened_again_is_still_there(tmp_path, clock):
    SqliteLedger(tmp_path / "l", clock_ms=clock).complete(KEY, "ocr", "done")
    short = SqliteLedger(tmp_path / "l", clock_ms=clock, keep_completions_ms=5)
    assert pickle.loads(pickle.dumps(short)).completion(KEY).result == "done"  # noqa: S301
    clock.now_ms += 6
    assert pickle.loads(pickle.dumps(short)).completion(KEY) is None  # noqa: S301


def test_file_when_made_by_an_earlier_schema_is_refused_by_name(tmp_path, clock):
    SqliteLedger(tmp_path / "l", clock_ms=clock).complete(KEY, "ocr", "done")
    with sqlite3.connect(tmp_path / "l") as connection:
        connection.execute("PRAGMA user_version = 1")
    with pytest.raises(LedgerFileError, match="must have schema version 2, got 1"):
        SqliteLedger(tmp_path / "l", clock_ms=clock).completion(KEY)
