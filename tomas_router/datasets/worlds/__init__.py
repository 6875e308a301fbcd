"""Registries of many domains with requests for their tools, written for this project (``world``: the format)."""

from __future__ import annotations

from tomas_router.datasets.worlds.requests import ROWS, world_registry, world_rows
from tomas_router.datasets.worlds.tongue_rows import TONGUE_ROWS, tongue_rows
from tomas_router.datasets.worlds.tongues import load_tongues
from tomas_router.datasets.worlds.world import TEST_WORLDS, VAL_WORLDS, World, load_worlds

__all__ = [
    "ROWS", "TEST_WORLDS", "TONGUE_ROWS", "VAL_WORLDS", "World", "load_tongues", "load_worlds", "tongue_rows",
    "world_registry", "world_rows",
]  # fmt: skip
