"""Which tool calls have been completed, and with what answer, so that a resumed run does not repeat them.

A call is recorded when it has ended and before its answer is passed on. A process that dies between the tool's side
effect and the record runs the call again, so execution is at least once; the tool is given the call's
``idempotency_key`` to notice.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from tomas_router.errors import TomasRouterError

KEEP_COMPLETIONS_MS = 7 * 24 * 3_600_000
"""How long a call is remembered: a run may wait for a person for days."""
MAX_RESULT_BYTES = 2**20
"""A ledger is no place for large results; tools that make them should return where they are."""


class NotRecordableError(TomasRouterError, ValueError):
    """An answer is not plain JSON, or is too large to keep."""


@dataclass(frozen=True)
class CallKey:
    """One call of one thread. The same call with other arguments is another one."""

    thread_id: str
    call_id: str
    args_hash: str

    @classmethod
    def of(cls, thread_id: str, call_id: str, tool: str, args: Mapping[str, Any]) -> CallKey:
        """The key of a call; arguments that are not JSON count by what they look like."""
        written = json.dumps([tool, args], sort_keys=True, default=repr)
        return cls(thread_id, call_id, hashlib.sha256(written.encode()).hexdigest())

    @property
    def idempotency_key(self) -> str:
        """The same at every attempt of this call, and of no other one."""
        written = json.dumps([self.thread_id, self.call_id, self.args_hash])
        return hashlib.sha256(written.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Completion:
    """A call that has ended."""

    tool: str
    result: Any
    """Plain JSON."""
    at_ms: int  # epoch


@runtime_checkable
class Completions(Protocol):
    """Where completed calls are kept; both ledgers are."""

    def completion(self, key: CallKey) -> Completion | None:
        """What is known of a call; None: it has not been completed, or long ago."""
        ...

    def complete(self, key: CallKey, tool: str, result: Any) -> None:
        """Records a call; the first record of a call stands.

        Raises:
            NotRecordableError: the result is not plain JSON or larger than ``MAX_RESULT_BYTES``.
        """
        ...


def written(tool: str, result: Any) -> str:
    """A result as JSON text.

    Raises:
        NotRecordableError: it would not come back as it is, or is too large.
    """
    try:
        text = json.dumps(result, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotRecordableError(f"{tool}: its answer must be plain JSON to be recorded: {error}") from error
    if json.loads(text) != result:
        raise NotRecordableError(f"{tool}: its answer must be plain JSON to be recorded, got tuples or keys of numbers")
    size = len(text.encode())
    if size > MAX_RESULT_BYTES:
        raise NotRecordableError(
            f"{tool}: its answer must be at most {MAX_RESULT_BYTES} bytes to be recorded, got {size}"
        )
    return text


class CompletionsInMemory:
    """Completed calls of one process, with its own lock."""

    def __init__(self, clock_ms: Callable[[], int], keep_ms: int) -> None:
        self._clock_ms, self._keep_ms = clock_ms, keep_ms
        self._lock = threading.Lock()
        self._done: dict[CallKey, tuple[str, str, int]] = {}

    def completion(self, key: CallKey) -> Completion | None:
        with self._lock:
            self._forget()
            found = self._done.get(key)
        return None if found is None else Completion(found[0], json.loads(found[1]), found[2])

    def complete(self, key: CallKey, tool: str, result: Any) -> None:
        text = written(tool, result)
        with self._lock:
            self._forget()
            self._done.setdefault(key, (tool, text, self._clock_ms()))

    def _forget(self) -> None:
        """Drops old records; they stand in the order in which they were made."""
        oldest_ms = self._clock_ms() - self._keep_ms
        while self._done and next(iter(self._done.values()))[2] < oldest_ms:
            del self._done[next(iter(self._done))]
