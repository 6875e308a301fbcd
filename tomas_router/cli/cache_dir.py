"""Where the command keeps encoded tools between calls, so that the next one starts at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

VARIABLE = "TOMAS_CACHE_DIR"


def cache_dir() -> Path | None:
    """``$TOMAS_CACHE_DIR``, else ``tomas-router`` in the user's cache; None where nothing can be written.

    Entries are named by their content and by the model's weights, so an old one is never used by mistake; the folder
    may be deleted at any time.
    """
    chosen = os.environ.get(VARIABLE)
    try:
        folder = Path(chosen) if chosen else _user_cache() / "tomas-router"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except (OSError, RuntimeError):  # RuntimeError: the user has no home directory
        return None


def _user_cache() -> Path:
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
