"""What tools return, as plain JSON."""

from __future__ import annotations

import json
from typing import Any


def plain(output: Any) -> Any:
    """As JSON would hold it; what JSON cannot hold becomes text."""
    try:
        return json.loads(json.dumps(output, allow_nan=False))
    except (TypeError, ValueError):
        return str(output)
