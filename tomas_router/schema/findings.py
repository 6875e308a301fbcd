"""What validation found, with enough detail to mend the file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tomas_router.errors import DataValidationError

Severity = Literal["error", "warning"]


class DataWarning(UserWarning):
    """Data is usable but suspicious; the message names file, row and field."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or suspicious."""

    severity: Severity
    file: str
    line: int | None
    field: str | None
    value: str | None
    expected: str

    @property
    def message(self) -> str:
        """``profiling.csv:17: latency_ms must be >= 0, got -3.2``."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = f"{self.field} " if self.field else ""
        got = "" if self.value is None else f", got {self.value}"
        return f"{place}: {subject}{self.expected}{got}"

    def __str__(self) -> str:
        return self.message


@dataclass
class FindingLog:
    """Collects the findings of one file."""

    file: str
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, path: str | Path) -> FindingLog:
        """A log that names the file as the user would recognise it."""
        return cls(Path(path).name)

    def error(self, expected: str, *, line: int | None = None, field: str | None = None, value: object = None) -> None:
        """Something that makes the data unusable."""
        self._add("error", expected, line, field, value)

    def warn(self, expected: str, *, line: int | None = None, field: str | None = None, value: object = None) -> None:
        """Something a person should look at; the data is used."""
        self._add("warning", expected, line, field, value)

    def pydantic(self, error: ValidationError, line: int | None, prefix: str = "") -> None:
        """Every problem of a pydantic validation."""
        for problem in error.errors(include_url=False):
            name = ".".join(str(part) for part in problem["loc"])
            text = str(problem["msg"]).removeprefix("Value error, ")
            shown = None if problem["type"] == "missing" else problem["input"]
            self.error(f"is wrong: {text}", line=line, field=prefix + name if name else prefix or None, value=shown)

    @property
    def errors(self) -> list[Finding]:
        """Findings that forbid the use of the data."""
        return [f for f in self.findings if f.severity == "error"]

    def finish(self) -> None:
        """Raises on errors, otherwise emits the warnings.

        Raises:
            DataValidationError: At least one error was found; carries all of them.
        """
        if self.errors:
            raise DataValidationError(self.errors)
        emit(self.findings)

    def _add(self, severity: Severity, expected: str, line: int | None, field: str | None, value: object) -> None:
        shown = None if value is None else _short(value)
        self.findings.append(Finding(severity, self.file, line, field, shown, expected))


def emit(findings: Iterable[Finding]) -> None:
    """Shows warnings through Python's own warning machinery."""
    for finding in findings:
        if finding.severity == "warning":
            warnings.warn(str(finding), DataWarning, stacklevel=4)


def _short(value: object) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
