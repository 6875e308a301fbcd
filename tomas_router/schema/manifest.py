"""The contract of a model directory: ``manifest.json`` beside the graphs; ``docs/artifacts.md`` has the layout."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tomas_router.errors import ArtifactMismatchError, UntrainedModelError
from tomas_router.schema.file_check import HashMemory, check_hash, check_size
from tomas_router.schema.onnx_header import declared_opsets

MANIFEST = "manifest.json"
Quantisation = Literal["none", "int8", "packed", "int4"]
Layout = Literal["embedded", "optimum"]
"""Which engine the graphs are made for: ``OnnxEngine``, or ``OptimumEngine`` and a GPU."""
Precision = Literal["float32", "float16", "bfloat16"]
Verification = Literal["once", "always"]
SchemaVersion = Literal["1.0", "1.1", "1.2"]
CURRENT_VERSION: SchemaVersion = "1.2"
NO_CHECKSUM = "0" * 64
"""Stands in the place of the checksum while it is computed."""

HASHED_AT_START_BYTES = 8 << 20
"""Files up to this size are hashed at every start, which takes milliseconds; larger ones once, if remembered."""


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    opset: int | None = None
    """Version of the default operator set where it is not the manifest's."""


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


class PackedWeight(_Contract):
    """One int8 matrix, C order, inputs by outputs: number times step of its block, block by block along the inputs."""

    shape: tuple[int, int]
    offset: int = Field(ge=0)
    """In the file that graphs read."""
    numbers_offset: int = Field(ge=0)
    """In the stored file: 4 bits a number in two's complement, the first of two in the lower half of a byte."""
    steps_offset: int = Field(ge=0)
    """In the stored file: one byte a step, (inputs / block, outputs)."""


class PackedLayersEntry(_Contract):
    """A weights file that graphs read and no directory holds: it is computed from stored numbers and steps.

    A reader computes it and gives its bytes to ONNX Runtime under its name, or writes it beside the graphs.
    """

    file: str
    """What the graphs call it."""
    bytes: int = Field(ge=0)
    """Its size; what no weight covers is zero."""
    stored_in: str
    block: int = Field(gt=0)
    """So many inputs share a step."""
    weights: tuple[PackedWeight, ...]

    @model_validator(mode="after")
    def _weights_fit(self) -> PackedLayersEntry:
        for index, weight in enumerate(self.weights):
            inputs, outputs = weight.shape
            if inputs % self.block:
                raise ValueError(f"weights[{index}] must have whole blocks of {self.block} inputs, got {inputs}")
            if (end := weight.offset + inputs * outputs) > self.bytes:
                raise ValueError(f"weights[{index}] must end within {self.bytes} bytes of {self.file}, got {end}")
        return self

    def stored_end(self) -> int:
        """Where the last number or step ends in the stored file."""
        ends = [0]
        for weight in self.weights:
            size = weight.shape[0] * weight.shape[1]
            ends += [weight.numbers_offset + size // 2, weight.steps_offset + size // self.block]
        return max(ends)


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

    schema_version: SchemaVersion = CURRENT_VERSION
    """1.0 had neither ``checksum`` nor ``least_onnxruntime``, 1.1 no ``packed_layers``."""
    checksum: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    """SHA-256 of this file with the 64 digits of the checksum itself written as zeros."""
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
    """Version of the default operator set that every graph declares, unless its entry names another."""
    least_onnxruntime: str | None = None
    """Oldest ONNX Runtime that has every operator of the graphs, in any language."""
    sizes: Sizes
    row_scaler: RowScalerEntry
    curve_scaler: CurveScalerEntry
    calibration: dict[str, float]
    tokenizer: str
    """File of the tokenizer, in the format of Hugging Face's ``tokenizers``."""
    token_table: TokenTableEntry | None = None
    """None in layout ``optimum``, where the token table is a graph."""
    packed_layers: PackedLayersEntry | None = None
    """Only of level ``packed``."""
    graphs: dict[str, GraphEntry]
    tolerance: Tolerance
    files: dict[str, FileEntry]
    """Every file that a reader may open, by its name; names are plain, without folders."""
    versions: dict[str, str]
    """What the export ran with; for people."""
    trained_on: tuple[str, ...] | None = None
    """Names of the data sources whose tools training showed; None where it was not recorded."""

    @model_validator(mode="after")
    def _files_are_listed(self) -> Manifest:
        table = self.token_table
        arrays = () if table is None else (table.values, table.scales)
        used = {entry.file for entry in (*self.graphs.values(), *arrays) if entry is not None} | {self.tokenizer}
        used |= set() if self.packed_layers is None else {self.packed_layers.stored_in}
        if unlisted := sorted(used - set(self.files)):
            raise ValueError(f"every file in use must be listed under 'files', {unlisted} are not")
        names = [*self.files, *([self.packed_layers.file] if self.packed_layers else [])]
        if folders := sorted(name for name in names if name in ("", ".", "..") or re.search(r"[/\\:]", name)):
            raise ValueError(f"file names must be plain, without folders, got {folders}")
        packed = self.packed_layers
        if packed is not None and (end := packed.stored_end()) > (size := self.files[packed.stored_in].bytes):
            raise ValueError(f"packed weights must lie within {size} bytes of {packed.stored_in}, one ends at {end}")
        return self


def read_manifest(
    directory: str | Path, verify: Verification = "once", cache_dir: str | Path | None = None
) -> Manifest:
    """Reads the manifest and checks the files that it lists.

    Sizes, the manifest's own checksum, operator sets and the hashes of small files are checked every time.

    Args:
        directory: A model directory.
        verify: When large files are hashed: ``once``, unless ``cache_dir`` remembers it, or ``always``.
        cache_dir: Where it is remembered that a file was hashed; None remembers nothing.

    Raises:
        UntrainedModelError: There is no manifest, so there are no trained heads.
        ArtifactMismatchError: A file is missing, altered or for another version; says file, expected and found.
        ValueError: ``verify`` is unknown.
    """
    if verify not in get_args(Verification):
        raise ValueError(f"verify must be one of {get_args(Verification)}, got {verify!r}")
    directory = Path(directory)
    path = directory / MANIFEST
    if not path.exists():
        raise UntrainedModelError(
            f"{directory} holds no {MANIFEST}: no trained model was exported there. Train one with "
            "'tomas train --config configs/embedded.yaml' and export it with 'python -m export.onnx'"
        )
    manifest = parse_manifest(path)
    for name, entry in manifest.files.items():
        check_size(directory / name, entry.bytes)
    memory = HashMemory.below(cache_dir) if verify == "once" else None
    for name, entry in manifest.files.items():
        check_hash(directory / name, entry.sha256, memory if entry.bytes > HASHED_AT_START_BYTES else None)
    for graph in manifest.graphs.values():
        _check_opset(directory / graph.file, graph.opset or manifest.opset)
    return manifest


def parse_manifest(path: Path) -> Manifest:
    """Reads one manifest file, without a look at the files that it lists.

    Raises:
        ArtifactMismatchError: It is altered, malformed or of another version; names the field.
    """
    data = path.read_bytes()
    try:
        content = json.loads(data)
    except ValueError as error:
        raise ArtifactMismatchError(path, "content", "JSON", str(error)) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version not in get_args(SchemaVersion):
        raise ArtifactMismatchError(path, "schema_version", " or ".join(get_args(SchemaVersion)), str(version))
    _check_own_hash(path, data, content)
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "whole"
        raise ArtifactMismatchError(path, field, first["msg"], _shortened(repr(first["input"]))) from error


def _check_own_hash(path: Path, data: bytes, content: dict[str, object]) -> None:
    """The first version had no checksum; every later one must have it."""
    checksum = content.get("checksum")
    if checksum is None and content["schema_version"] == "1.0":
        return
    expected = str(checksum)
    found = hashlib.sha256(data.replace(expected.encode(), NO_CHECKSUM.encode())).hexdigest()
    if found != expected:
        raise ArtifactMismatchError(path, "checksum", expected, found)


def manifest_text(manifest: Manifest) -> str:
    """The file's text, with its checksum."""
    text = manifest.model_copy(update={"schema_version": CURRENT_VERSION, "checksum": NO_CHECKSUM}).model_dump_json(
        indent=1
    )
    return f"{text}\n".replace(NO_CHECKSUM, hashlib.sha256(f"{text}\n".encode()).hexdigest(), 1)


def _check_opset(path: Path, opset: int) -> None:
    try:
        found = declared_opsets(path).get("")
    except ValueError as error:
        raise ArtifactMismatchError(path, "content", "an ONNX graph", str(error)) from error
    if found != opset:
        raise ArtifactMismatchError(path, "opset", str(opset), str(found))


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
