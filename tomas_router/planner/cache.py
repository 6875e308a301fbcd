"""Encoded tools, kept by content so that each is encoded once.

A tool's key covers its name, its description, its profile rows and the engine's fingerprint; anything that changes the
encoding changes the key. In memory the encodings of the last few registries are kept, and a new registry takes over
those it shares with them. On disk, when a directory is given, every batch of newly encoded tools becomes one
``.npz`` file; files are written whole or not at all, read without pickle, and ignored with a warning when damaged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tomas_router.planner.engine import RoutingEngine, ToolEncodings
from tomas_router.schema.profiling import ProfilingTable
from tomas_router.schema.registry import ToolRegistry, ToolSpec

logger = logging.getLogger(__name__)

TOOLS_PER_BATCH = 32
KEPT_REGISTRIES = 4
PROGRESS_AFTER_S = 1.0
ARRAYS = tuple(field.name for field in fields(ToolEncodings))
DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)

Int = NDArray[np.int64]


@dataclass(frozen=True)
class _Entry:
    registry: ToolRegistry
    profiling: ProfilingTable | None
    keys: tuple[str, ...]
    encodings: ToolEncodings


class EncodingCache:
    """Encodings of registries for one engine."""

    def __init__(self, engine: RoutingEngine, cache_dir: str | Path | None = None) -> None:
        """Args: cache_dir: where encodings outlive the process; None keeps them in memory only."""
        self._engine = engine
        self._directory = None if cache_dir is None else Path(cache_dir) / _file_safe(engine.fingerprint)
        self._entries: list[_Entry] = []
        self._lock = threading.Lock()

    def encodings(self, registry: ToolRegistry, profiling: ProfilingTable | None) -> ToolEncodings:
        """Encodings of all tools, in the registry's order."""
        with self._lock:  # two threads with the same new registry encode it once
            for entry in self._entries:
                if entry.registry is registry and entry.profiling is profiling:
                    return entry.encodings
            return self._enter(registry, profiling)

    def _enter(self, registry: ToolRegistry, profiling: ProfilingTable | None) -> ToolEncodings:
        keys = tuple(tool_key(tool, profiling, self._engine.fingerprint) for tool in registry)
        known = next((entry.encodings for entry in self._entries if entry.keys == keys), None)
        encodings = known or self._gather(registry.tools, keys, profiling)
        self._entries = [_Entry(registry, profiling, keys, encodings), *self._entries][:KEPT_REGISTRIES]
        return encodings

    def _gather(
        self, tools: Sequence[ToolSpec], keys: tuple[str, ...], profiling: ProfilingTable | None
    ) -> ToolEncodings:
        """Joins what memory and disk hold with what must be encoded now."""
        parts: list[ToolEncodings] = []
        place: dict[str, int] = {}  # row of each key in the joined parts
        wanted = set(keys)
        sources: list[_Memory | _File] = [*map(_Memory, self._entries), *self._files()]
        for source in sources:
            rows = {key: row for row, key in enumerate(source.keys) if key in wanted and key not in place}
            part = source.read(np.array(list(rows.values()), dtype=np.int64)) if rows else None
            if part is not None:
                place |= {key: len(place) + i for i, key in enumerate(rows)}
                parts.append(part)
        missing = {key: tool for key, tool in zip(keys, tools, strict=True) if key not in place}
        if missing:
            part = encode_all(self._engine, tuple(missing.values()), profiling)
            place |= {key: len(place) + i for i, key in enumerate(missing)}
            parts.append(part)
            if self._directory is not None:
                _File.write(self._directory, tuple(missing), part)
        return _joined(parts, np.array([place[key] for key in keys], dtype=np.int64))

    def _files(self) -> Iterator[_File]:
        if self._directory is None or not self._directory.is_dir():
            return
        for path in sorted(self._directory.glob("*.npz")):
            opened = _File.open(path)
            if opened is not None:
                yield opened


def tool_key(tool: ToolSpec, profiling: ProfilingTable | None, fingerprint: str) -> str:
    """Content hash of everything that a tool's encoding depends on."""
    rows = [
        (r.input_size, r.cpu_core, r.cpu_mem_gb, r.gpu_sm, r.gpu_mem_gb, r.latency_ms)
        for r in (() if profiling is None else profiling.rows(tool.name))
    ]
    text = json.dumps([fingerprint, tool.name, tool.desc, rows], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def encode_all(engine: RoutingEngine, tools: Sequence[ToolSpec], profiling: ProfilingTable | None) -> ToolEncodings:
    """Encodes tools in batches of like length; shows progress on a terminal when it takes more than a second."""
    order = sorted(range(len(tools)), key=lambda i: len(tools[i].name) + len(tools[i].desc))
    done: ToolEncodings | None = None
    with tqdm(
        total=len(tools), desc="encoding tools", unit="tool", file=sys.stderr, delay=PROGRESS_AFTER_S, disable=None
    ) as progress:
        for first in range(0, len(order), TOOLS_PER_BATCH):
            index = np.array(order[first : first + TOOLS_PER_BATCH], dtype=np.int64)
            batch = engine.encode_tools(engine.prepare_tools([tools[i] for i in index.tolist()], profiling))
            if done is None:
                done = _empty_like(batch, len(tools))
            for name in ARRAYS:
                getattr(done, name)[index] = getattr(batch, name)
            progress.update(len(index))
    assert done is not None, "a registry holds at least one tool"
    return done


class _Memory:
    """Encodings of an earlier registry."""

    def __init__(self, entry: _Entry) -> None:
        self.keys = entry.keys
        self._encodings = entry.encodings

    def read(self, rows: Int) -> ToolEncodings | None:
        """Encodings at ``rows``."""
        return self._encodings.take(rows)


@dataclass(frozen=True)
class _File:
    """One file of encodings."""

    path: Path
    keys: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> _File | None:
        """Reads the keys only."""
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(path, tuple(arrays["keys"].tolist()))
        except DAMAGE as error:
            logger.warning("ignoring the damaged cache file %s: %s", path, error)
            return None

    def read(self, rows: Int) -> ToolEncodings | None:
        """Encodings at ``rows``."""
        try:
            with np.load(self.path, allow_pickle=False) as arrays:
                return ToolEncodings(**{name: arrays[name][rows] for name in ARRAYS})
        except DAMAGE as error:
            logger.warning("ignoring the damaged cache file %s: %s", self.path, error)
            return None

    @staticmethod
    def write(directory: Path, keys: tuple[str, ...], encodings: ToolEncodings) -> None:
        """Writes beside and renames, so that readers never see half a file."""
        directory.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(keys).encode()).hexdigest()[:24]
        with tempfile.NamedTemporaryFile(dir=directory, suffix=".part", delete=False) as file:
            np.savez(file, keys=np.array(keys), **{array: getattr(encodings, array) for array in ARRAYS})
        Path(file.name).replace(directory / f"{name}.npz")


def _empty_like(batch: ToolEncodings, count: int) -> ToolEncodings:
    arrays = {name: getattr(batch, name) for name in ARRAYS}
    return ToolEncodings(**{name: np.empty((count, *a.shape[1:]), a.dtype) for name, a in arrays.items()})


def _joined(parts: Sequence[ToolEncodings], index: Int) -> ToolEncodings:
    """Rows ``index`` of all parts laid end to end; copies only where it must."""
    first = parts[0]
    if len(parts) == 1 and len(index) == len(first.key_ND) and (index == np.arange(len(index))).all():
        return first
    whole = ToolEncodings(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in ARRAYS})
    return whole.take(index)


def _file_safe(fingerprint: str) -> str:
    return hashlib.sha256(fingerprint.encode()).hexdigest()[:24]
