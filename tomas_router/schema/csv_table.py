"""Reads a CSV of numbers row by row, remembering line numbers for findings."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tomas_router.schema.findings import FindingLog
from tomas_router.schema.text_file import read_text

MAX_AMOUNT = 1e12
"""No amount of any resource is larger; it keeps milli-cores and MiB well inside 64-bit integers."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


class NumberText(str):
    """A cell that is written as a number; findings show it as it stands, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def read_csv(
    path: str | Path, required: tuple[str, ...], log: FindingLog, optional: tuple[str, ...] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line, cells) of every complete row; header problems end the reading.

    Understands UTF-8 with or without a byte-order mark and any line ending; spaces around cells are dropped.
    """
    text = read_text(path, log)
    if text is None:
        return
    lines = _records(text, log)
    _, header = next(lines, (1, []))
    if not header:
        log.error(f"is empty; expected the header {','.join(required)}")
        return
    if not _header_is_good(header, required, optional, log):
        return
    rows = 0
    for line, cells in lines:
        rows += 1
        if len(cells) != len(header):
            log.error(f"must have {len(header)} cells", line=line, value=len(cells))
            continue
        yield (
            line,
            {
                name: NumberText(cell) if _NUMBER.fullmatch(cell) else cell
                for name, cell in zip(header, cells, strict=True)
            },
        )
    if not rows:
        log.error("has a header but no rows")


def write_csv(path: str | Path, header: Iterable[str], rows: Iterable[Iterable[str | int | float]]) -> None:
    """Writes a table; numbers get the fewest digits that read back as the same number."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    Path(path).write_text(text.getvalue(), encoding="utf-8", newline="\n")


def number(cells: dict[str, str], field: str, line: int, log: FindingLog) -> float | None:
    """A finite number, or None after a finding. Missing values are errors: there is no safe default for a demand."""
    text = cells[field]
    if not text:
        log.error("must be a number; a missing value has no safe default", line=line, field=field, value="")
        return None
    if not isinstance(text, NumberText) and not _NOT_FINITE.fullmatch(text):
        log.error("must be a plain number without a unit", line=line, field=field, value=text)
        return None
    if not math.isfinite(float(text)):
        log.error("must be finite", line=line, field=field, value=text)
        return None
    return float(text) + 0.0  # minus zero becomes zero


def _records(text: str, log: FindingLog) -> Iterator[tuple[int, list[str]]]:
    """(first line, stripped cells) of every record that is not blank; a quoted cell may hold line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""))
    before = 0
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield before + 1, stripped
            before = reader.line_num
    except csv.Error as error:
        log.error(f"must be CSV: {error}", line=before + 1)


def _header_is_good(header: list[str], required: tuple[str, ...], optional: tuple[str, ...], log: FindingLog) -> bool:
    before = len(log.errors)
    wanted = ",".join(required)
    if len(header) == 1 and len(required) > 1 and (";" in header[0] or "\t" in header[0]):
        log.error(f"must separate columns with commas: {wanted}", line=1, value=header[0])
        return False
    for name in required:
        if name not in header:
            log.error(f"is missing; expected the columns {wanted}", line=1, field=f"column {name}")
    for name in dict.fromkeys(header):
        if name not in (*required, *optional):
            log.error(f"is unknown; expected the columns {wanted}", line=1, field=f"column {name!r}")
        elif header.count(name) > 1:
            log.error("must not repeat", line=1, field=f"column {name}")
    return len(log.errors) == before


def _cell(value: str | int | float) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
