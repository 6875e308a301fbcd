"""Reads text files that people hand in: one way to say what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tomas_router.schema.findings import FindingLog


def read_text(path: str | Path, log: FindingLog) -> str | None:
    """The text of a UTF-8 file, with or without a byte-order mark; None after a finding."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        log.error(f"cannot be read: {error.strerror}")
    except UnicodeDecodeError:
        log.error("must be UTF-8 text")
    return None


def read_lines(path: str | Path, log: FindingLog) -> Iterator[tuple[int, str]]:
    """(number, text) of every line that is not blank. Only line feeds end a line: JSON text may hold U+2028."""
    for number, line in enumerate((read_text(path, log) or "").split("\n"), start=1):
        if line.strip():
            yield number, line
