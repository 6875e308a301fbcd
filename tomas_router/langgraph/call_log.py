"""What became of the calls: expected beside actual, for ``ToolRouterMiddleware.report()``."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tomas_router.schema.profiling import ResourceConfig

KEPT_CALLS = 1_000


@dataclass(frozen=True)
class CallRecord:
    """One call: what was expected, and what it was."""

    tool: str
    status: Literal["done", "failed", "refused", "no_room"]
    planned: bool
    config: ResourceConfig | None
    degraded: bool
    waited_ms: int
    expected_ms: float | None
    took_ms: int | None


class CallLog:
    """The last 1,000 calls, oldest first."""

    def __init__(self) -> None:
        self._calls: deque[CallRecord] = deque(maxlen=KEPT_CALLS)

    def append(self, record: CallRecord) -> None:
        self._calls.append(record)

    def report(self) -> list[dict[str, Any]]:
        """Plain JSON."""
        return [
            asdict(record) | {"config": None if record.config is None else record.config.model_dump()}
            for record in tuple(self._calls)
        ]
