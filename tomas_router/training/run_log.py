"""What a run says of itself: ``log.jsonl``, one record a line, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


class RunLog:
    """Appends to ``RUN/log.jsonl`` and ``RUN/tensorboard``; files appear with the first record."""

    def __init__(self, run_dir: Path) -> None:
        self._dir = run_dir
        self._writer: Any = None

    def write(self, record: Mapping[str, Any]) -> None:
        """One record; ``step`` says when."""
        with (self._dir / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # What a cut-off run wrote after its last checkpoint is told again.
            self._writer = SummaryWriter(str(self._dir / "tensorboard"), purge_step=record["step"])
        for name, value in _scalars("", record):
            self._writer.add_scalar(name, value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        """Ends TensorBoard's writer; a later record begins a new file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _scalars(prefix: str, record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _scalars(f"{prefix}{name}/", value)
        elif name not in ("step", "steps") and not isinstance(value, str):
            yield prefix + name, float(value)
