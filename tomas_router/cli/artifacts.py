"""``tomas artifacts``: every check of a model directory, the slow ones included; packed layers as a plain file."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomas_router.cli.exit_codes import OK

if TYPE_CHECKING:
    from tomas_router.engines.onnx_engine import InterfaceDifference
    from tomas_router.schema.manifest import Manifest


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas artifacts``."""
    p = subparsers.add_parser("artifacts", help="check the files of an exported model")
    actions = p.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="hash every file and load every graph; exit code 2 names what is wrong")
    verify.add_argument("directory", type=Path, nargs="?", help="what the export wrote (default: the packaged model)")
    verify.set_defaults(run=run_verify)
    unpack = actions.add_parser(
        "unpack",
        help="write the weights file that graphs with packed layers read, for runtimes that cannot be handed it",
    )
    unpack.add_argument("directory", type=Path, nargs="?", help="what the export wrote (default: the packaged model)")
    unpack.add_argument("--out", type=Path, help="the file (default: beside the graphs, where ONNX Runtime looks)")
    unpack.set_defaults(run=run_unpack)


def run_verify(args: argparse.Namespace) -> int:
    """Checks a directory and lists what was checked.

    Raises:
        UntrainedModelError: The directory holds no exported model.
        ModelArtifactError: A file is missing, altered, for another version, or cannot be loaded.
    """
    from tomas_router import shipped
    from tomas_router.errors import ArtifactMismatchError
    from tomas_router.schema.manifest import read_manifest

    directory = args.directory or shipped.model_dir()
    manifest = read_manifest(directory, verify="always")
    loaded, different = _interfaces(directory, manifest)
    if different is not None:
        raise ArtifactMismatchError(
            directory / manifest.graphs[different.graph].file,
            different.kind,
            str(different.written),
            str(different.seen),
        )
    lines = [f"{entry.bytes:>12,} bytes  {name}" for name, entry in sorted(manifest.files.items())]
    total = sum(entry.bytes for entry in manifest.files.values())
    lines += [
        f"{total:>12,} bytes  in {len(manifest.files)} files, all as the manifest says (sizes, SHA-256)",
        f"{len(manifest.graphs)} graphs {loaded}, opset {manifest.opset}, names, types and axes as the manifest says",
        f"{manifest.name}, {manifest.quantisation}, fingerprint {manifest.fingerprint}, "
        f"manifest {manifest.schema_version}{'' if manifest.checksum else ' (has no checksum of its own)'}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return OK


def run_unpack(args: argparse.Namespace) -> int:
    """Writes the file that ``manifest.packed_layers`` describes.

    Raises:
        UntrainedModelError: The directory holds no exported model.
        ModelArtifactError: A file is missing or altered, or nothing in the directory is packed.
        OSError: The file cannot be written.
    """
    from tomas_router import shipped
    from tomas_router.errors import ModelArtifactError
    from tomas_router.schema.manifest import read_manifest
    from tomas_router.schema.packed_layers import unpacked_layers

    directory = args.directory or shipped.model_dir()
    manifest = read_manifest(directory)
    layers = manifest.packed_layers
    if layers is None:
        raise ModelArtifactError(f"{directory} has level {manifest.quantisation!r}: nothing in it is packed")
    out = args.out or directory / layers.file
    unpacked_layers(directory, layers).tofile(out)
    sys.stdout.write(f"{layers.bytes:>12,} bytes  {out}\n")
    return OK


def _interfaces(directory: Path, manifest: Manifest) -> tuple[str, InterfaceDifference | None]:
    """How the graphs were looked at, and the first that is not what the manifest says."""
    from tomas_router.engines.onnx_engine import OnnxEngine

    if manifest.layout == "embedded":
        return "load", OnnxEngine.load(directory).interface_difference()
    # By name, because it needs onnx, as everything of this layout does.
    files = import_module("tomas_router.engines.optimum_files")
    return "are read", files.declared_difference(directory, manifest)
