"""Writes a model directory's manifest again in the current version, with a checksum, after checking every file.

    python -m export.seal DIR [--calibration FILE] [--known-tools DIR] [--request-words DIR]

For directories that an older version exported, whose manifest was edited on purpose, that get the calibration which
``tomas calibrate --out FILE`` fitted, a list of the tools that training showed, or the words of its requests
(``python -m tomas_router.training.request_words``). The other files stay as they are, and one that is not what the
manifest says is refused.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields
from math import isfinite
from pathlib import Path

from export.manifest import LEAST_ONNXRUNTIME, file_entry, fingerprint
from tomas_router.errors import TomasRouterError
from tomas_router.features.known_tools import KNOWN_TOOLS, KnownTools
from tomas_router.features.request_words import REQUEST_WORDS, RequestWords
from tomas_router.planner.engine import Calibration
from tomas_router.schema.file_check import check_hash, check_size
from tomas_router.schema.manifest import MANIFEST, Manifest, manifest_text, parse_manifest


def seal(
    directory: Path,
    calibration: Calibration | None = None,
    known_tools: KnownTools | None = None,
    request_words: RequestWords | None = None,
) -> Manifest:
    """Rewrites ``manifest.json``, with a calibration where one is given; on an error it is left as it was.

    With ``known_tools`` or ``request_words``, their files are written too.

    Raises:
        ArtifactMismatchError: A file is not what the manifest says.
        ValidationError: The manifest itself breaks its contract.
    """
    path = directory / MANIFEST
    manifest = Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    for name, entry in manifest.files.items():
        check_size(directory / name, entry.bytes)
        check_hash(directory / name, entry.sha256)
    if manifest.least_onnxruntime is None:
        manifest = manifest.model_copy(update={"least_onnxruntime": LEAST_ONNXRUNTIME})
    if calibration is not None:
        manifest = manifest.model_copy(update={"calibration": asdict(calibration)})
    written = {}
    if known_tools is not None:
        known_tools.write(directory)
        written[KNOWN_TOOLS] = file_entry(directory / KNOWN_TOOLS)
    if request_words is not None:
        request_words.write(directory)
        written[REQUEST_WORDS] = file_entry(directory / REQUEST_WORDS)
    if written:
        files = dict(sorted({**manifest.files, **written}.items()))
        manifest = manifest.model_copy(update={"files": files, "fingerprint": fingerprint(files)})
    path.write_bytes(manifest_text(manifest).encode())
    return parse_manifest(path)


def read_calibration(path: Path) -> Calibration:
    """What ``tomas calibrate`` wrote.

    Raises:
        ValueError: It is not JSON, or not the numbers of this version, all of them finite.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    expected = [field.name for field in fields(Calibration)]
    if not isinstance(content, dict) or sorted(content) != sorted(expected):
        raise ValueError(f"{path}: expected an object with {', '.join(expected)}, got {content!r}")
    for name, value in content.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"{path}: {name} must be a finite number, got {value!r}")
    return Calibration(**content)


def main(argv: list[str] | None = None) -> int:
    """Command line; 0 when sealed, 2 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m export.seal", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="what `tomas calibrate --out FILE` wrote")
    parser.add_argument(
        "--known-tools", type=Path, metavar="DIR", help="checkpoint or model whose known_tools.txt is taken over"
    )
    parser.add_argument(
        "--request-words", type=Path, metavar="DIR", help="folder or model whose request_words.npz is taken over"
    )
    args = parser.parse_args(argv)
    try:
        calibration = None if args.calibration is None else read_calibration(args.calibration)
        known = None if args.known_tools is None else KnownTools.read(args.known_tools, words=False)
        if args.known_tools is not None and known is None:
            raise ValueError(f"{args.known_tools} holds no {KNOWN_TOOLS}")
        words = None if args.request_words is None else RequestWords.read(args.request_words)
        if args.request_words is not None and words is None:
            raise ValueError(f"{args.request_words} holds no {REQUEST_WORDS}")
        manifest = seal(args.directory, calibration, known, words)
    except (TomasRouterError, ValueError, OSError) as error:
        print(f"cannot seal {args.directory}: {error}", file=sys.stderr)
        return 2
    print(f"{args.directory / MANIFEST}: version {manifest.schema_version}, checksum {manifest.checksum}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
