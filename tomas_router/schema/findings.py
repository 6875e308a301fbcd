"""What validation found, with enough detail to mend the file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tomas_router.errors import DataValidationError

Severity = Literal["error", "warning"]
MAX_SHOWN_WARNINGS = 20
MAX_VALUE_CHARS = 80


class DataWarning(UserWarning):
    """Data is usable but suspicious; the message names file, row and field."""


class InconsistentError(ValueError):
    """Fields that are fine one by one contradict each other; ``problems`` holds one sentence each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(self.problems))


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
        """Every problem of a pydantic validation, in the words of this library."""
        for problem in error.errors(include_url=False):
            name = (prefix + _field_name(problem["loc"])).strip(".") or None
            cause = problem.get("ctx", {}).get("error")
            if isinstance(cause, InconsistentError):
                for text in cause.problems:
                    self.error(text, line=line, field=name)
                continue
            whole = not problem["loc"] or isinstance(problem["input"], Mapping)
            shown = None if whole or problem["type"] == "missing" else _clipped(repr(problem["input"]))
            expected = _expected(problem["type"], problem["msg"])
            self.findings.append(Finding("error", self.file, line, name, shown, expected))

    @property
    def errors(self) -> list[Finding]:
        """Findings that forbid the use of the data."""
        return [f for f in self.findings if f.severity == "error"]

    def finish(self) -> None:
        """Raises on errors, otherwise emits the warnings.

        Raises:
            DataValidationError: At least one error was found; carries all of them.
        """
        finish(self.findings)

    def _add(self, severity: Severity, expected: str, line: int | None, field: str | None, value: object) -> None:
        shown = None if value is None else _short(value)
        self.findings.append(Finding(severity, self.file, line, field, shown, expected))


def finish(findings: Iterable[Finding]) -> None:
    """Raises on errors, otherwise emits the warnings.

    Raises:
        DataValidationError: At least one finding is an error; carries all errors.
    """
    found = list(findings)
    errors = [f for f in found if f.severity == "error"]
    if errors:
        raise DataValidationError(errors)
    emit(found)


def emit(findings: Iterable[Finding]) -> None:
    """Shows warnings through Python's own warning machinery: the first twenty, then how many more there are."""
    shown = [f for f in findings if f.severity == "warning"]
    for finding in shown[:MAX_SHOWN_WARNINGS]:
        warnings.warn(str(finding), DataWarning, stacklevel=4)
    if len(shown) > MAX_SHOWN_WARNINGS:
        rest = len(shown) - MAX_SHOWN_WARNINGS
        warnings.warn(f"{shown[0].file}: {rest} more warnings; see `tomas validate`", DataWarning, stacklevel=4)


def _field_name(location: tuple[int | str, ...]) -> str:
    """``('steps', 0, 'start_ms')`` becomes ``.steps[0].start_ms``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _expected(kind: str, message: str) -> str:
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is unknown"
    message = re.sub(r"^(Input|String|Value|List|Tuple|Dictionary) should ", "must ", message)
    for words, sign in _SIGNS.items():
        message = message.replace(words, sign)
    return message.removeprefix("Value error, ")


_SIGNS = {
    "greater than or equal to": ">=",
    "less than or equal to": "<=",
    "greater than": ">",
    "less than": "<",
}


def _short(value: Any) -> str:
    """The value as it stands in the file: text in quotes, so that blanks show."""
    return _clipped(repr(value) if isinstance(value, str) else str(value))


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 3] + "..."
