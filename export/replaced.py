"""A directory that appears whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Gives an empty directory beside ``out`` that takes its place when the block ends without an error."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".export-") as folder:
        fresh = Path(folder) / "model"
        fresh.mkdir()
        yield fresh
        if out.exists():
            out.rename(Path(folder) / "old")  # deleted with the folder, after the new one is in place
        fresh.rename(out)
