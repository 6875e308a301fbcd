"""What a working process reports, line by line: one side writes, the other reads meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO


class EventFile:
    """A file of JSON lines that another process appends to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[dict[str, Any]]:
        """Complete lines that were not read before; none while the file does not exist."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except FileNotFoundError:
            return []
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [json.loads(line) for line in complete.splitlines()]


def write_event(events: TextIO, **event: Any) -> None:
    """Adds one line at once, so that it survives a crash of the process that writes it."""
    events.write(json.dumps(event) + "\n")
    events.flush()
