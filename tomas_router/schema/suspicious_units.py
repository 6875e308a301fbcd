"""Signs that a column is in another unit. They warn and never convert: only the writer of the file knows.

The limits lie above what real machines have and what one tool asks of them, so that true values stay silent.
"""

from __future__ import annotations

from collections.abc import Sequence

from tomas_router.schema.findings import FindingLog

BYTES_FROM = 1e6  # GiB; a value this large cannot be MiB of any machine either
Column = Sequence[tuple[int, float]]  # (line, value) of every row


def warn_cores(column: Column, limit: float, field: str, log: FindingLog) -> None:
    """Cores at or above ``limit`` look like milli-cores."""
    line, largest = max(column, key=lambda cell: cell[1])
    if largest >= limit:
        log.warn("looks like milli-cores; vCPU are expected", line=line, field=field, value=_plain(largest))


def warn_memory(column: Column, limit_gib: float, field: str, log: FindingLog) -> None:
    """Memory above ``limit_gib`` looks like MiB, or like bytes."""
    line, largest = max(column, key=lambda cell: cell[1])
    if largest > limit_gib:
        unit = "bytes" if largest >= BYTES_FROM else "MiB"
        log.warn(f"looks like {unit}; GiB are expected", line=line, field=field, value=_plain(largest))


def warn_share(column: Column, field: str, log: FindingLog) -> None:
    """A share that never exceeds 1 looks like a fraction."""
    line, largest = max(column, key=lambda cell: cell[1])
    if 0 < largest <= 1:
        log.warn("looks like a fraction; percent 0 to 100 are expected", line=line, field=field, value=_plain(largest))


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() else value
