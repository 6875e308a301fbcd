"""``tomas schema``: the JSON Schema of a contract."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tomas_router.cli.exit_codes import OK

CONTRACTS = ("plan", "registry", "request", "profiling", "manifest")


def add_parser(subparsers: Any) -> None:
    """Adds ``tomas schema``."""
    p = subparsers.add_parser("schema", help="print the JSON Schema of a contract")
    p.add_argument("contract", choices=CONTRACTS)
    p.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints one schema."""
    from tomas_router.schema.json_schema import json_schema

    sys.stdout.write(json.dumps(json_schema(args.contract), indent=2) + "\n")
    return OK
