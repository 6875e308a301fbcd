"""What became of the calls: expected beside actual, for the ``report()`` of middleware and executor."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tomas_router.schema.profiling import InputSize, ResourceConfig

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
    input_size: InputSize = "medium"
    identity: str = ""
    """The tool with its version and schema hash, as planned."""
    thread_id: str | None = None
    peak_mem_gb: float | None = None
    """What it took at most beyond what the process held before, GiB; None: not measured."""
    alone: bool = True
    """Whether no other call ran in this process meanwhile; if not, the peak is that of all of them."""


class CallLog:
    """The last 1,000 calls, oldest first."""

    def __init__(self) -> None:
        self._calls: deque[CallRecord] = deque(maxlen=KEPT_CALLS)

    def append(self, record: CallRecord) -> None:
        self._calls.append(record)

    def records(self) -> tuple[CallRecord, ...]:
        return tuple(self._calls)

    def report(self) -> list[dict[str, Any]]:
        """Plain JSON."""
        return [
            asdict(record) | {"config": None if record.config is None else record.config.model_dump()}
            for record in tuple(self._calls)
        ]
