"""The command line: `fisherbo tune`, `predict`, `ask`, `tell`, `report` and `rl`.

Exit codes: 0 done, 1 a run failed or a storage does not answer, 2 bad input, 130 interrupted.
torch and Optuna are imported inside the commands, so that `fisherbo --help` is quick.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version

from fisherbo.cli import ask, predict, report, rl, tell, tune
from fisherbo.cli.arguments import Parser
from fisherbo.errors import FisherboError, InvalidInputError, MissingExtraError

_COMMANDS = {
    "tune": tune,
    "predict": predict,
    "ask": ask,
    "tell": tell,
    "report": report,
    "rl": rl,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of these arguments (default: those of the process); returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments = _parser().parse_args(words)
        command: Callable[[argparse.Namespace], int] = arguments.command
        return command(arguments)
    except (InvalidInputError, MissingExtraError) as error:
        return _fail(error, 2)
    except FisherboError as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        resume = shlex.join(["fisherbo", *words])
        kept = "what was done is" if words[:1] == ["rl"] else "finished trials are"
        print(f"\nfisherbo: interrupted; {kept} kept, resume: {resume}", file=sys.stderr)
        return 130


def _fail(error: FisherboError, code: int) -> int:
    print(f"fisherbo: error: {' '.join(str(error).split())}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="fisherbo",
        description="Bayesian optimization and training by natural gradient.",
        epilog="\n".join(command.EXAMPLES for command in _COMMANDS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fisherbo {version('fisherbo')}")
    commands = parser.add_subparsers(required=True, metavar="command", title="commands")
    for name, command in _COMMANDS.items():
        added = commands.add_parser(
            name,
            help=command.HELP,
            description=command.DESCRIPTION,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(added)
        added.set_defaults(command=command.run)
    return parser
