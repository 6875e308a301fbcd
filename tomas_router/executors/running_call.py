"""What a tool can ask while it runs: what it may use, under which key, and whether it should stop.

``running_call()`` answers inside a tool that the middleware, the executor node or ``ThreadExecutor`` runs, also in
coroutines and in threads that were given the context.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from tomas_router.errors import TomasRouterError
from tomas_router.schema.profiling import ResourceConfig

StopReason = Literal["cancelled", "timed out", "lease lost"]


class CallStoppedError(TomasRouterError):
    """A call was stopped before it ended; ``reason`` says why."""

    def __init__(self, message: str, reason: StopReason) -> None:
        super().__init__(message)
        self.reason: StopReason = reason


class RunningCall:
    """One call that runs. What it does in threads and processes is counted, so that one can wait for its real end."""

    ended: threading.Event
    """Set while nothing of the call runs that cannot be stopped at once."""

    def __init__(
        self,
        tool: str,
        config: ResourceConfig | None = None,
        *,
        idempotency_key: str | None = None,
        lost: Callable[[], bool] = lambda: False,
    ) -> None:
        """Takes what the call was given.

        Args:
            tool: its name.
            config: what it may use; None: nobody said.
            idempotency_key: the same at every attempt of this call.
            lost: whether its booking does not count any more.
        """
        self.tool, self.config, self.idempotency_key = tool, config, idempotency_key
        self.ended = threading.Event()
        self.ended.set()
        self._lost, self._asked = lost, threading.Event()
        self._why: StopReason = "cancelled"
        self._busy, self._lock = 0, threading.Lock()

    def stop(self, why: StopReason) -> None:
        """Asks it to stop; the first reason stands."""
        with self._lock:
            if not self._asked.is_set():
                self._why = why
                self._asked.set()

    def should_stop(self) -> StopReason | None:
        """Why the call should stop; None: it may go on."""
        if self._asked.is_set():
            return self._why
        return "lease lost" if self._lost() else None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """What is inside cannot be stopped from outside, so what the call holds is kept until it has ended."""
        with self._lock:
            self._busy += 1
            self.ended.clear()
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                if not self._busy:
                    self.ended.set()


_running: ContextVar[RunningCall | None] = ContextVar("tomas_router_running_call", default=None)


def running_call() -> RunningCall | None:
    """The call that this code is part of; None outside of one."""
    return _running.get()


@contextmanager
def running(call: RunningCall) -> Iterator[RunningCall]:
    """What is inside is part of the call."""
    before = _running.set(call)
    try:
        yield call
    finally:
        _running.reset(before)
