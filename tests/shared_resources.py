"""Reference material beside a checkout: cases and replayed machines that are not part of the repository."""

from __future__ import annotations

from pathlib import Path

SHARED = Path(__file__).resolve().parents[2] / "shared" / "resources"
ABSENT = "../shared is absent"
"""The one reason to skip that continuous integration accepts."""
