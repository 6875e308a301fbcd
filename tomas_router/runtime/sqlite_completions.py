"""The table of completed calls in a ledger's file."""

from __future__ import annotations

import json
import sqlite3

from tomas_router.runtime.completions import CallKey, Completion

COMPLETIONS_SCHEMA = """
CREATE TABLE completions (
    thread_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    args_hash TEXT NOT NULL,
    tool TEXT NOT NULL,
    result TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (thread_id, call_id, args_hash)
);
CREATE INDEX completions_by_time ON completions (at_ms);
"""


def read_completion(db: sqlite3.Connection, key: CallKey, oldest_ms: int) -> Completion | None:
    """One call, unless it was completed before ``oldest_ms``."""
    row = db.execute(
        "SELECT tool, result, at_ms FROM completions"
        " WHERE thread_id = ? AND call_id = ? AND args_hash = ? AND at_ms >= ?",
        (key.thread_id, key.call_id, key.args_hash, oldest_ms),
    ).fetchone()
    return None if row is None else Completion(row[0], json.loads(row[1]), row[2])


def write_completion(db: sqlite3.Connection, key: CallKey, tool: str, result: str, now_ms: int, oldest_ms: int) -> None:
    """Keeps the first record of a call, and drops those from before ``oldest_ms``."""
    db.execute("DELETE FROM completions WHERE at_ms < ?", (oldest_ms,))
    db.execute(
        "INSERT OR IGNORE INTO completions VALUES (?, ?, ?, ?, ?, ?)",
        (key.thread_id, key.call_id, key.args_hash, tool, result, now_ms),
    )
