"""Who is compared: each names a tool, or plans, for a request over a registry; built ready to be asked.

Tool texts are encoded once for the sentence encoder too (``remember_minilm``) and read from disk, as ours are; a
request is encoded anew every time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tomas_router import Planner, ToolRegistry
from tomas_router.engines.onnx_engine import OnnxEngine
from tomas_router.evaluation.bm25 import Bm25
from tomas_router.evaluation.minilm import PACKAGE, installed_minilm
from tomas_router.features.tool_text import tool_text

Request = str | dict[str, Any]
Ask = Callable[[Request], int]
"""Answers a request and says with how many steps; routers that name one tool say 1."""

OURS = "Tomas Router"
TORCH_MINILM = "semantic-router, MiniLM in torch"
NUMPY_MINILM = "semantic-router, MiniLM in numpy"
BM25 = "BM25"
VECTORS = "minilm.npy"


def available() -> list[str]:
    """Routers whose packages are installed here."""
    minilm = find_spec("semantic_router") is not None and find_spec(PACKAGE) is not None
    torch = minilm and all(find_spec(package) is not None for package in ("torch", "transformers"))
    return [OURS, *([TORCH_MINILM] if torch else []), *([NUMPY_MINILM] if minilm else []), BM25]


def build(router: str, registry: ToolRegistry, cache: Path, model: Path, threads: int) -> Ask:
    """The router over a registry, warm but for its first request.

    Args:
        router: One of ``available()``.
        registry: The tools.
        cache: Folder of what was encoded before.
        model: Exported model of ours.
        threads: Threads of one request; BLAS reads its number from the environment before Python starts.
    """
    if router == OURS:
        return _ours(registry, cache, model, threads)
    if router == BM25:
        return _bm25(registry)
    return _semantic_router(registry, cache, threads, in_torch=router == TORCH_MINILM)


def texts(registry: ToolRegistry) -> list[str]:
    """What the others read of a tool: the same text as ours."""
    return [tool_text(tool.name, tool.desc) for tool in registry]


def remember_minilm(registry: ToolRegistry, cache: Path) -> None:
    """Encodes all tools once, in this process; smaller registries are the beginning of this one."""
    encoder = installed_minilm()
    assert encoder is not None, "asked for only where it is installed"
    np.save(cache / VECTORS, encoder.rows(texts(registry)))


def _ours(registry: ToolRegistry, cache: Path, model: Path, threads: int) -> Ask:
    engine = OnnxEngine.load(model, intra_op_num_threads=threads, cache_dir=cache)
    planner = Planner(engine, cache_dir=cache)
    planner.encode(registry)
    return lambda request: len(planner.plan(request, registry).steps)


def _bm25(registry: ToolRegistry) -> Ask:
    index = Bm25(texts(registry))
    return lambda request: int(index.scores([instruction_of(request)])[0].argmax() >= 0)


def _semantic_router(registry: ToolRegistry, cache: Path, threads: int, *, in_torch: bool) -> Ask:
    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    query = _torch_query(threads) if in_torch else _numpy_query()
    vectors_ND = np.load(cache / VECTORS)[: len(registry)]

    class LocalEncoder(DenseEncoder):  # type: ignore[misc]
        """The tools' vectors from disk, a request's computed here."""

        name: str = "all-MiniLM-L6-v2"

        def __call__(self, docs: list[str]) -> list[list[float]]:
            return [query(docs[0])] if len(docs) == 1 else vectors_ND.tolist()

    routes = [Route(name=tool.name, utterances=[text]) for tool, text in zip(registry, texts(registry), strict=True)]
    router = IndexedRouter(encoder=LocalEncoder(), routes=routes)
    return lambda request: int(router(instruction_of(request)).name is not None)


def _numpy_query() -> Callable[[str], list[float]]:
    encoder = installed_minilm()
    assert encoder is not None, "asked for only where it is installed"
    return lambda text: encoder.rows([text])[0].tolist()


def _torch_query(threads: int) -> Callable[[str], list[float]]:
    """As its users run it: the package's own encoder on transformers."""
    import torch
    from semantic_router.encoders import HuggingFaceEncoder

    torch.set_num_threads(threads)
    encoder = HuggingFaceEncoder(name=str(_minilm_folder()), device="cpu")
    return lambda text: encoder([text])[0]


def _minilm_folder() -> Path:
    spec = find_spec(PACKAGE)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations))) / "model"


def instruction_of(request: Request) -> str:
    return request if isinstance(request, str) else str(request["instruction"])
