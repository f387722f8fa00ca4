"""The command line of a suite that makes its runs, ships them, and writes a result file."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from experiments.harness import rows
from experiments.harness.comparison import Suite, compare, current, execute, parser, report
from experiments.harness.peers import SAMPLERS
from experiments.harness.traces import ship


def command(
    suite: Suite,
    doc: str | None,
    title: str,
    samplers: Sequence[str],
    budget: int,
    argv: Sequence[str] | None = None,
) -> None:
    """Run the command of a suite, whose result file has the suite's name and this title."""
    options = parser(suite.name, doc, "write ship")
    options.set_defaults(budget=budget, samplers=list(samplers))
    args = options.parse_args(argv)
    if args.ship:
        print(ship(suite.name, SAMPLERS))
        return
    execute(suite, args)
    if args.write:
        console = Console(width=180, record=True)
        console.print(report(suite.name, compare(suite, current(suite), suite.final)))
        rows.write(console, suite.name, title, f"Made by `{rows.command(suite.name, argv)}`")
