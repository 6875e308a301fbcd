"""Calls of one message wait for each other, where the plan puts one before another."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

from tomas_router.langgraph.planned_call import PlannedCall

POLL_S = 0.01


class Siblings:
    """Calls of one message wait for those that the plan puts before them, if these have begun.

    One that has not begun is not waited for: in a pool of threads it may never begin while others wait.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, dict[str, threading.Event]] = {}

    def running(self, call: PlannedCall) -> Running:
        step = call.step.id if call.step is not None else f"call{call.position}"
        return Running(self, call.message_id, step)

    def begin(self, message: str, step: str) -> None:
        with self._lock:
            self._begun.setdefault(message, {})[step] = threading.Event()

    def end(self, message: str, step: str) -> None:
        with self._lock:
            steps = self._begun.get(message, {})
            if step in steps:
                steps.pop(step).set()
            if not steps:
                self._begun.pop(message, None)

    def earlier(self, call: PlannedCall) -> list[threading.Event]:
        wanted = call.step.depends_on if call.step is not None else ()
        with self._lock:
            steps = self._begun.get(call.message_id, {})
            return [steps[step] for step in wanted if step in steps]

    def wait_for_earlier(self, call: PlannedCall) -> None:
        for event in self.earlier(call):
            event.wait()

    async def await_earlier(self, call: PlannedCall) -> None:
        for event in self.earlier(call):
            while not event.is_set():
                await asyncio.sleep(POLL_S)


@dataclass(frozen=True)
class Running:
    """A call that others may wait for while the block runs."""

    siblings: Siblings
    message: str
    step: str

    def __enter__(self) -> None:
        self.siblings.begin(self.message, self.step)

    def __exit__(self, *error: object) -> None:
        self.siblings.end(self.message, self.step)
