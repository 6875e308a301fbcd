"""The contract of a model directory: ``manifest.json`` beside the graphs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tomas_router.errors import ModelArtifactError, UntrainedModelError

MANIFEST = "manifest.json"
Quantisation = Literal["none", "int8", "int4"]


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileEntry(_Contract):
    """One file of the directory."""

    bytes: int
    sha256: str


class TensorEntry(_Contract):
    """An input or output of a graph; symbolic axes by name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class GraphEntry(_Contract):
    """One ONNX graph."""

    file: str
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[TensorEntry, ...]


class Manifest(_Contract):
    """Everything that is needed to use the graphs from any language."""

    schema_version: Literal["1.0"] = "1.0"
    name: str
    fingerprint: str
    quantisation: Quantisation
    opset: int
    sizes: dict[str, int]
    """d_model, layers, kv_heads, head_dim, vocab, virtual_tokens, max_prefix_tools, max_task_tokens, ..."""
    row_scaler: dict[str, Any]
    curve_scaler: dict[str, Any]
    calibration: dict[str, float]
    graphs: dict[str, GraphEntry]
    files: dict[str, FileEntry]
    tolerances: dict[str, float]
    versions: dict[str, str]


def read_manifest(directory: str | Path, verify: Literal["size", "full"] = "size") -> Manifest:
    """Reads the manifest and checks the files it lists.

    Args:
        directory: A model directory.
        verify: ``size`` compares sizes (fast, at every start); ``full`` hashes every file.

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
        check_file(directory / name, entry, verify == "full")
    return manifest


def check_file(path: Path, entry: FileEntry, full: bool) -> None:
    """Compares a file with its entry.

    Raises:
        ModelArtifactError: The file is missing, has another size or (``full``) another content.
    """
    if not path.exists():
        raise ModelArtifactError(f"{path} is missing; export the model again or reinstall the package")
    size = path.stat().st_size
    if size != entry.bytes:
        raise ModelArtifactError(f"{path} has {size} bytes, the manifest says {entry.bytes}")
    if full and file_sha256(path) != entry.sha256:
        raise ModelArtifactError(f"{path} was altered: its SHA-256 is not the manifest's")


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
