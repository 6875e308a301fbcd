"""Reads a CSV of numbers row by row, remembering line numbers for findings."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from tomas_router.schema.findings import FindingLog


def read_csv(
    path: str | Path, required: tuple[str, ...], log: FindingLog, optional: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line, cells) of every complete row; header problems end the reading.

    Understands UTF-8 with or without a byte-order mark and any line ending; spaces around cells are dropped.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        log.error(f"cannot be read: {error.strerror}")
        return
    except UnicodeDecodeError:
        log.error("must be UTF-8 text")
        return
    reader = csv.reader(text.splitlines())
    header = [cell.strip() for cell in next(reader, [])]
    if not any(header):
        log.error(f"is empty; expected the header {','.join(required)}")
        return
    missing = [name for name in required if name not in header]
    unknown = [name for name in header if name not in (*required, *optional)]
    for name in missing:
        log.error(f"is missing; expected the columns {','.join(required)}", line=1, field=f"column {name}")
    for name in unknown:
        log.error("is unknown", line=1, field=f"column {name!r}")
    if missing or unknown or len(set(header)) != len(header):
        if len(set(header)) != len(header):
            log.error("must not repeat columns", line=1, value=",".join(header))
        return
    rows = 0
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        rows += 1
        if len(cells) != len(header):
            log.error(f"must have {len(header)} cells", line=reader.line_num, value=len(cells))
            continue
        yield reader.line_num, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    if not rows:
        log.error("has a header but no rows")


def number(cells: dict[str, str], field: str, line: int, log: FindingLog) -> float | None:
    """A finite number, or None after a finding. Missing values are errors: there is no safe default for a demand."""
    text = cells[field]
    if not text:
        log.error("must be a number; a missing value has no safe default", line=line, field=field, value="''")
        return None
    try:
        value = float(text)
    except ValueError:
        log.error("must be a plain number without a unit", line=line, field=field, value=text)
        return None
    if not math.isfinite(value):
        log.error("must be finite", line=line, field=field, value=text)
        return None
    return value
