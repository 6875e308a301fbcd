"""The contract of a model directory: ``manifest.json`` beside the graphs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomas_router.errors import ModelArtifactError, UntrainedModelError

MANIFEST = "manifest.json"
Quantisation = Literal["none", "int8", "packed", "int4"]
Layout = Literal["embedded", "optimum"]
"""Which engine the graphs are made for: ``OnnxEngine``, or ``OptimumEngine`` and a GPU."""
Precision = Literal["float32", "float16", "bfloat16"]
Verification = Literal["quick", "full"]

HASHED_AT_START_BYTES = 8 << 20
"""Files up to this size are hashed at every start, which takes milliseconds; larger ones only on request."""


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Contract):
    """One file of the directory."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class TensorEntry(_Contract):
    """An input or output of a graph; dynamic axes by name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class GraphEntry(_Contract):
    """One ONNX graph."""

    file: str
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]


class ArrayEntry(_Contract):
    """A plain array inside a file, C order, little endian."""

    file: str
    dtype: Literal["uint8", "float32"]
    offset: int = Field(ge=0)
    shape: tuple[int, ...]


class TokenTableEntry(_Contract):
    """The token embedding, which is also the LM head when the two are tied.

    With ``scales``, value = (byte - 128) * scale of its block; rows are padded to whole blocks.
    """

    width: int
    values: ArrayEntry
    scales: ArrayEntry | None


class Sizes(_Contract):
    """Numbers of the network that an engine needs."""

    d_model: int
    text_layers: int
    """Layers of the graph ``text``, which reads text alone."""
    layers: int
    """Layers of the graph ``backbone``, above the text layers; they hold the tool prefix."""
    kv_heads: int
    head_dim: int
    vocab: int
    virtual_tokens: int
    curve_points: int
    max_prefix_tools: int
    max_task_tokens: int
    max_tool_tokens: int
    max_rows: int
    max_steps: int
    max_positions: int


class RowScalerEntry(_Contract):
    """Statistics of ``features.tool_rows.RowScaler``."""

    mode: Literal["zscore", "minmax"]
    offset: tuple[float, ...] = Field(min_length=6, max_length=6)
    scale: tuple[float, ...] = Field(min_length=6, max_length=6)


class CurveScalerEntry(_Contract):
    """Statistics of ``features.curve.CurveScaler``."""

    mode: Literal["minmax", "standard", "none"]
    offset: tuple[float, float, float, float]
    scale: tuple[float, float, float, float]


class Tolerance(_Contract):
    """How far an output may be from the checkpoint's, ``||out - ref|| / ||ref||``."""

    relative_error: float
    reason: str


class Manifest(_Contract):
    """Everything that is needed to use the graphs from any language."""

    schema_version: Literal["1.0"] = "1.0"
    name: str
    fingerprint: str
    """Changes with any file; part of every cache key."""
    training_fingerprint: str
    """Hash of the checkpoint's weights."""
    layout: Layout = "embedded"
    precision: Precision = "float32"
    """Of the backbone's weights and cache; heads are float32."""
    trained: bool = True
    """False for artifacts with random weights, which are for timing: no planner accepts them."""
    quantisation: Quantisation
    opset: int
    sizes: Sizes
    row_scaler: RowScalerEntry
    curve_scaler: CurveScalerEntry
    calibration: dict[str, float]
    tokenizer: str
    token_table: TokenTableEntry | None = None
    """None in layout ``optimum``, where the token table is a graph."""
    graphs: dict[str, GraphEntry]
    tolerance: Tolerance
    files: dict[str, FileEntry]
    versions: dict[str, str]
    trained_on: tuple[str, ...] | None = None
    """Names of the data sources whose tools training showed; None where it was not recorded."""


def read_manifest(directory: str | Path, verify: Verification = "quick") -> Manifest:
    """Reads the manifest and checks the files it lists.

    Args:
        directory: A model directory.
        verify: ``quick`` compares all sizes and hashes the small files; ``full`` hashes every file.

    Raises:
        UntrainedModelError: There is no manifest, so there are no trained heads.
        ModelArtifactError: The manifest is malformed, or a file is missing or altered; names the file.
    """
    directory = Path(directory)
    path = directory / MANIFEST
    if not path.exists():
        raise UntrainedModelError(
            f"{directory} holds no {MANIFEST}: no trained model was exported there. Train one with "
            "'tomas train --config configs/embedded.yaml' and export it with 'python -m export.onnx'"
        )
    try:
        manifest = Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        raise ModelArtifactError(f"{path} is not a valid manifest: {error}") from error
    for name, entry in manifest.files.items():
        check_file(directory / name, entry, hashed=verify == "full" or entry.bytes <= HASHED_AT_START_BYTES)
    return manifest


def check_file(path: Path, entry: FileEntry, *, hashed: bool) -> None:
    """Compares a file with its entry.

    Raises:
        ModelArtifactError: The file is missing, has another size or (``hashed``) another content.
    """
    if not path.is_file():
        raise ModelArtifactError(f"{path} is missing; export the model again or reinstall the package")
    size = path.stat().st_size
    if size != entry.bytes:
        raise ModelArtifactError(f"{path} has {size} bytes, the manifest says {entry.bytes}")
    if hashed and file_sha256(path) != entry.sha256:
        raise ModelArtifactError(f"{path} was altered: its SHA-256 is not the manifest's")


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
