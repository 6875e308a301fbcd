"""Answers of tool calls as plain JSON, recorded before they are passed on and given again when a run is resumed."""

from __future__ import annotations

import logging
from typing import Any

from langchain_core.messages import ToolMessage
from langgraph.types import Command

from tomas_router.langgraph.planned_call import PlannedCall
from tomas_router.runtime.completions import Completions, NotRecordableError
from tomas_router.runtime.ledger_errors import LedgerBusyError, LedgerFileError

log = logging.getLogger("tomas_router")

REPLAYED = "tomas_router_replayed"
FIELDS = ("content", "artifact", "status", "additional_kwargs", "response_metadata", "name")
"""What makes up an answer; its ids are those of the call and of the run."""


class CompletedCalls:
    """Looks answers up and records them. Calls outside of a thread are neither: nothing could resume them."""

    def __init__(self, completions: Completions | None) -> None:
        """None: nothing is recorded, and every call of a resumed run is run again."""
        self._completions = completions

    def replay(self, call: PlannedCall) -> ToolMessage | None:
        """The answer of a call that was completed before; None: it has to be run.

        Raises:
            LedgerFileError: the ledger cannot be used.
            LedgerBusyError: it did not answer in time.
        """
        key = call.key
        found = None if self._completions is None or key is None else self._completions.completion(key)
        if found is None:
            return None
        fields = dict(found.result)
        extra = {**fields.pop("additional_kwargs"), REPLAYED: True}
        return ToolMessage(tool_call_id=call.request.tool_call["id"], additional_kwargs=extra, **fields)

    def record(self, call: PlannedCall, answer: ToolMessage | Command[Any]) -> None:
        """Keeps an answer; where that is not possible it says so, because the tool has run already."""
        key = call.key
        if self._completions is None or key is None:
            return
        try:
            self._completions.complete(key, call.name, _fields(call.name, answer))
        except (NotRecordableError, LedgerFileError, LedgerBusyError) as error:
            log.warning("%s has run and is not recorded, so a resumed run runs it again: %s", call.name, error)


def _fields(tool: str, answer: ToolMessage | Command[Any]) -> dict[str, Any]:
    if not isinstance(answer, ToolMessage):
        raise NotRecordableError(
            f"{tool}: its answer must be a ToolMessage to be recorded, got {type(answer).__name__}"
        )
    return {name: getattr(answer, name) for name in FIELDS}
