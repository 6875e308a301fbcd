"""The rows of a training run in one compressed file, so that they are composed once and not by every process of a run.

JSON Lines under gzip: a manifest, then for each source and split a head (``source, split, rows, tools``) with its rows
behind it. ``tools`` is the registry of a public source. Reading runs no code, and gives what composing would give.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tomas_router import __version__, datasets
from tomas_router.datasets.rows import Row, Step
from tomas_router.errors import DataValidationError
from tomas_router.schema.findings import FindingLog
from tomas_router.schema.registry import ToolRegistry
from tomas_router.shipped import instructions_path, registry_path

FORMAT, VERSION = "tomas-prepared-rows", 1
DEFAULTS = {f.name: f.default for f in fields(Row) if f.default is not MISSING}


@dataclass(frozen=True)
class Part:
    """Rows of one split of a source; ``registry`` where the source has tools of its own that are not ours."""

    rows: tuple[Row, ...]
    registry: ToolRegistry | None = None


@dataclass(frozen=True)
class PreparedRows:
    """A file that was read; ``parts`` by source and split."""

    name: str
    manifest: Mapping[str, Any]
    parts: Mapping[tuple[str, str], Part]

    def expect(self, settings: Mapping[str, object]) -> None:
        """Compares what the file was made with.

        Raises:
            DataValidationError: A setting differs; names it, with both values.
        """
        log = FindingLog(self.name)
        for field, value in settings.items():
            if self.manifest.get(field) != value:
                log.error(
                    f"must be {value!r}, as the training configuration says; make the file anew with: tomas prepare",
                    line=1,
                    field=field,
                    value=self.manifest.get(field),
                )
        log.finish()

    def public(self) -> list[str]:
        """Names of the sources that come from a data folder."""
        return sorted(source for source, split in self.parts if split == "val")


def generator_version() -> str:
    """Changes when the code or the text that rows are composed of changes, or the shipped rows and tools do."""
    folder = Path(str(datasets.__file__)).parent
    digest = hashlib.sha256()
    written = sorted(p for p in folder.rglob("*") if p.suffix in (".py", ".txt"))
    for path in (*written, instructions_path("train"), registry_path()):
        if path.exists():  # instructions are left out of a wheel
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def write_prepared(path: Path, parts: Mapping[tuple[str, str], Part], settings: Mapping[str, object]) -> dict[str, Any]:
    """Writes the file, the same bytes for the same rows; returns its manifest.

    Args:
        path: ``.jsonl.gz``; a half-written file never stands there.
        parts: By source and split.
        settings: What the rows depend on beside the version, for ``PreparedRows.expect``.
    """
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "package": __version__,
        "numpy": np.__version__,
        "generator": generator_version(),
        **settings,
        "counts": _counts(parts),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for line in _lines(manifest, parts):
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    fresh.replace(path)
    return manifest


def _lines(manifest: Mapping[str, Any], parts: Mapping[tuple[str, str], Part]) -> Iterator[Mapping[str, Any]]:
    yield manifest
    for (source, split), part in parts.items():
        tools = part.registry and [tool.model_dump(mode="json", exclude_defaults=True) for tool in part.registry]
        yield {"source": source, "split": split, "rows": len(part.rows), "tools": tools}
        for row in part.rows:
            yield {k: v for k, v in asdict(row).items() if k not in DEFAULTS or v != DEFAULTS[k]}


def read_prepared(path: str | Path) -> PreparedRows:
    """Reads a file once for a process.

    Raises:
        DataValidationError: It is no such file, is cut off, or is of another version than this package writes.
        FileNotFoundError: There is no such file.
    """
    path = Path(path).resolve()
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)  # training, validation and calibration ask for it in turn
def _read(path: Path, _changed_ns: int, _size: int) -> PreparedRows:
    log, place = FindingLog.of(path), 1

    def numbered(file: TextIO) -> Iterator[Any]:
        nonlocal place
        for place, text in enumerate(file, start=1):  # noqa: B007
            yield json.loads(text)

    parts: dict[tuple[str, str], Part] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
            records = numbered(file)
            manifest = _manifest(next(records, None), log)
            for head in records:
                rows = tuple(_row(data) for data in islice(records, head["rows"]))
                if len(rows) < head["rows"]:
                    raise EOFError(f"{len(rows)} of {head['rows']} rows of {head['source']}")
                registry = ToolRegistry.from_tools(head["tools"]) if head["tools"] is not None else None
                parts[head["source"], head["split"]] = Part(rows, registry)
            if _counts(parts) != manifest["counts"]:
                raise EOFError(f"{_counts(parts)} where the manifest says {manifest['counts']}")
    except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataValidationError):
            raise
        log.error(f"must be a whole file that `tomas prepare` wrote: {error}", line=place)
        raise DataValidationError(log.errors) from error
    return PreparedRows(path.name, manifest, parts)


def _manifest(record: Any, log: FindingLog) -> dict[str, Any]:
    manifest: dict[str, Any] = record if isinstance(record, dict) else {}
    if manifest.get("format") != FORMAT:
        log.error(
            f"must be {FORMAT!r}, as `tomas prepare` writes", line=1, field="format", value=manifest.get("format")
        )
    else:
        for field, ours in (("version", VERSION), ("generator", generator_version())):
            if manifest.get(field) != ours:
                log.error(
                    f"must be {ours!r}, that of this package: it was made by another version "
                    f"(tomas-router {manifest.get('package')}); make it anew with: tomas prepare",
                    line=1,
                    field=field,
                    value=manifest.get(field),
                )
    log.finish()
    return manifest


def _row(data: dict[str, Any]) -> Row:
    steps = (step | {"depends_on": tuple(step["depends_on"])} for step in data["steps"])
    candidates = data.get("candidates")
    return Row(
        **data | {"steps": tuple(Step(**step) for step in steps), "candidates": candidates and tuple(candidates)}
    )


def _counts(parts: Mapping[tuple[str, str], Part]) -> dict[str, int]:
    return {f"{source}/{split}": len(part.rows) for (source, split), part in parts.items()}
