"""Plans outlive the program that made them: in checkpoints, files and queues. Old ones are migrated, others refused."""

from __future__ import annotations

from typing import Any, Literal

from tomas_router.errors import TomasRouterError

SCHEMA_VERSION: Literal["1.1"] = "1.1"
MIGRATED: dict[str, str] = {
    "1.0": "1.1 added tool_version and tool_schema_hash to steps; what an old plan does not say is not compared",
}
"""Older versions whose plans are read as the newest one, each with what they lack. All of it has a default, so writing
the new version is the whole migration; a change that needs more gets a function here."""


class PlanVersionError(TomasRouterError):
    """A plan has a ``schema_version`` that this library does not read; ``found`` is that version."""

    def __init__(self, found: object) -> None:
        readable = ", ".join((*MIGRATED, SCHEMA_VERSION))
        super().__init__(
            f"schema_version must be one of {readable}, got {found!r}; plan the request again, or read the plan with "
            f"the version of tomas-router that wrote it"
        )
        self.found = found

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.found,)


def newest_version(found: object) -> str:
    """The version that a plan of an older one is read as.

    Raises:
        PlanVersionError: nothing leads from its version to the newest.
    """
    if isinstance(found, str) and found in (*MIGRATED, SCHEMA_VERSION):
        return SCHEMA_VERSION
    raise PlanVersionError(found)
