"""Everything the library raises on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from tomas_router.schema.findings import Finding
    from tomas_router.schema.plan import Shortfall

MAX_SHOWN_FINDINGS = 20


class TomasRouterError(Exception):
    """Base of all errors of this library."""


class DataValidationError(TomasRouterError, ValueError):
    """Outside data broke a contract; ``findings`` lists everything that is wrong, not the first."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        shown = [str(finding) for finding in self.findings[:MAX_SHOWN_FINDINGS]]
        if len(self.findings) > len(shown):
            shown.append(f"... and {len(self.findings) - len(shown)} more")
        super().__init__("\n".join(shown))

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process borders with its findings
        return type(self), (self.findings,)


class UnknownToolError(TomasRouterError, KeyError):
    """A tool name that the registry, the profiles or a name-table encoder does not know."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0]) if self.args else ""


class InfeasibleError(TomasRouterError):
    """Nothing fits the curve. ``shortfalls`` says which resource is short, when and by how much."""

    def __init__(self, reason: str, shortfalls: Sequence[Shortfall] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.shortfalls = tuple(shortfalls)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.shortfalls)


class UntrainedModelError(TomasRouterError):
    """Planning was asked of a backbone without matching trained heads."""


class TimeBudgetError(TomasRouterError):
    """Training was given less time than it needs to begin and to end."""


class ModelArtifactError(TomasRouterError):
    """A model directory is incomplete, altered, or made for another version."""


class ArtifactMismatchError(ModelArtifactError):
    """A file of a model directory is not what its manifest says, or not for this version or runtime.

    ``file`` names it, ``what`` was compared; ``expected`` and ``found`` are texts.
    """

    def __init__(self, file: Path | str, what: str, expected: str, found: str) -> None:
        self.file, self.what, self.expected, self.found = str(file), what, expected, found
        super().__init__(
            f"{self.file}: {what}: expected {expected}, found {found}; export the model again or reinstall the package"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file, self.what, self.expected, self.found)


class MissingExtraError(TomasRouterError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""
