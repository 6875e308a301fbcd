"""Parses the command line and hands over to one command module."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from tomas_router import __version__
from tomas_router.cli import (
    artifacts,
    demo,
    execute,
    ledger,
    modules,
    plan,
    profile,
    record,
    registry,
    schema,
    snapshot,
    validate,
)
from tomas_router.cli.exit_codes import BAD_INPUT, INFEASIBLE

COMMANDS = (plan, execute, ledger, validate, registry, schema, artifacts, profile, snapshot, record, modules, demo)


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; light enough to be built at each start."""
    parser = argparse.ArgumentParser(
        prog="tomas",
        description="Decide which tool, with how much CPU and GPU, and when.",
        epilog="Exit codes: 0 planned or no tool, 2 bad input, 3 infeasible, 4 rows are missing.",
    )
    parser.add_argument("--version", action="version", version=f"tomas-router {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in modules.MODULES:
        return _report_errors(lambda: modules.run_module(arguments[0], arguments[1:]))
    args = build_parser().parse_args(arguments)
    return _report_errors(lambda: args.run(args))


def _report_errors(command: Callable[[], int]) -> int:
    from tomas_router.errors import InfeasibleError, TomasRouterError

    try:
        return command()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except InfeasibleError as error:
        return _complain(error, INFEASIBLE)
    except (TomasRouterError, OSError) as error:
        return _complain(error, BAD_INPUT)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _complain(error: object, code: int) -> int:
    sys.stderr.write(f"tomas: {error}\n")
    return code
