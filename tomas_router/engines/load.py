"""Chooses the engine that a model directory was exported for. Imports neither torch nor Optimum unless it is needed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from tomas_router.engines.onnx_engine import OnnxEngine, Provider
from tomas_router.errors import MissingExtraError
from tomas_router.planner.engine import RoutingEngine
from tomas_router.schema.manifest import MANIFEST, parse_manifest


def load_engine(directory: str | Path, provider: Provider = "cpu", **options: Any) -> RoutingEngine:
    """``OnnxEngine`` for layout ``embedded``, ``OptimumEngine`` for layout ``optimum``.

    Args:
        directory: What ``python -m export.onnx`` wrote.
        provider: ``cpu`` or ``cuda``.
        **options: As for ``load`` of either engine.

    Raises:
        UntrainedModelError: The directory holds no trained model.
        ArtifactMismatchError: A file is missing, altered or for another version.
        MissingExtraError: ONNX Runtime is not installed, or layout ``optimum`` is asked for without Optimum.
    """
    path = Path(directory) / MANIFEST
    if not path.exists() or parse_manifest(path).layout == "embedded":
        return OnnxEngine.load(directory, provider, **options)
    try:
        module = import_module("tomas_router.engines.optimum_engine")
    except ImportError as error:
        if isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError(
            f'{directory} has layout "optimum", which runs through Optimum: pip install "tomas-router[optimum]" '
            f"({error})"
        ) from error
    engine: RoutingEngine = module.OptimumEngine.load(directory, provider, **options)
    return engine
