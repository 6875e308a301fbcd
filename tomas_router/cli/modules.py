"""``tomas train``, ``prepare``, ``calibrate`` and ``eval``: run a package or a module, by name.

The name keeps the torch side out of the import graph of this command; every option is passed on unchanged.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True)
class Module:
    """A package with a ``__main__``, and what it needs installed."""

    name: str
    summary: str
    needs: str | None = None
    extra: str | None = None


MODULES = {
    "train": Module("tomas_router.training", "train a model (needs the extra 'train')", needs="torch", extra="train"),
    "prepare": Module("tomas_router.training.prepare", "compose the rows of a training run ahead of it, into one file"),
    "calibrate": Module(
        "tomas_router.evaluation.calibrate", "fit a model's thresholds on validation rows, without a GPU"
    ),
    "eval": Module("tomas_router.evaluation", "measure a model on labelled requests, beside trivial baselines"),
}


def add_parser(subparsers: Any) -> None:
    """Lists the commands in ``tomas --help``; their options belong to the modules."""
    for command, module in MODULES.items():
        subparsers.add_parser(command, help=module.summary, add_help=False, prefix_chars="\0").add_argument(
            "options", nargs=argparse.REMAINDER
        )


def run_module(command: str, argv: Sequence[str]) -> int:
    """Runs ``python -m <module> <argv>`` in this process.

    Raises:
        MissingExtraError: A package that the module needs is not installed.
    """
    from tomas_router.errors import MissingExtraError

    module = MODULES[command]
    if module.needs is not None and not _installed(module.needs):
        raise MissingExtraError(f'tomas {command} needs {module.needs}: pip install "tomas-router[{module.extra}]"')
    before = sys.argv
    sys.argv = [f"tomas {command}", *argv]
    try:
        runpy.run_module(module.name, run_name="__main__")
    except SystemExit as stop:
        return _exit_code(stop)
    finally:
        sys.argv = before
    return 0


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:  # an import hook that forbids the package
        return False


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    sys.stderr.write(f"{stop.code}\n")
    return 1
