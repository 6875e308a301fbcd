"""Where the data and the model that come with the package are: inside a wheel, or in a checkout's ``data/``."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_dir() -> Path:
    """The folder with ``tool_registry/``, ``profiling/`` and ``input/``."""
    installed = _PACKAGE / "_shipped"
    return installed if installed.is_dir() else _PACKAGE.parent / "data"


def registry_path() -> Path:
    """The shipped tool registry."""
    return data_dir() / "tool_registry" / "tools.json"


def profiling_path() -> Path:
    """The shipped (semi-synthetic) profiling table."""
    return data_dir() / "profiling" / "profiling.csv"


def timeline_path(name: str = "system_profiling") -> Path:
    """A shipped timeline: ``system_profiling``, ``idle``, ``busy``, ``bursty``, ``fragmented`` or ``no_gpu``."""
    return data_dir() / "input" / f"{name}.csv"


def instructions_path(split: str) -> Path:
    """``train``, ``val`` or ``test`` instructions; only a checkout has them, a wheel leaves them out."""
    return data_dir() / "instructions" / f"{split}.jsonl"


def model_dir() -> Path:
    """The packaged embedded model."""
    return _PACKAGE / "models" / "embedded"
