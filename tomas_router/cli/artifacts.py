"""``tomas artifacts verify``: every check of a model directory, the slow ones included."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from tomas_router.cli.exit_codes import OK


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas artifacts``."""
    p = subparsers.add_parser("artifacts", help="check the files of an exported model")
    actions = p.add_subparsers(dest="action", metavar="ACTION", required=True)
    verify = actions.add_parser("verify", help="hash every file and load every graph; exit code 2 names what is wrong")
    verify.add_argument("directory", type=Path, nargs="?", help="what the export wrote (default: the packaged model)")
    verify.set_defaults(run=run_verify)


def run_verify(args: argparse.Namespace) -> int:
    """Checks a directory and lists what was checked.

    Raises:
        UntrainedModelError: The directory holds no exported model.
        ModelArtifactError: A file is missing, altered, for another version, or cannot be loaded.
    """
    from tomas_router import shipped
    from tomas_router.engines.onnx_engine import OnnxEngine
    from tomas_router.errors import ArtifactMismatchError

    directory = args.directory or shipped.model_dir()
    engine = OnnxEngine.load(directory, verify="always")
    manifest = engine.manifest
    different = engine.interface_difference()
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
        f"{len(manifest.graphs)} graphs load, opset {manifest.opset}, names, types and axes as the manifest says",
        f"{manifest.name}, {manifest.quantisation}, fingerprint {manifest.fingerprint}, "
        f"manifest {manifest.schema_version}{'' if manifest.checksum else ' (has no checksum of its own)'}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return OK
