"""What `fisherbo tune` leaves: the model, the tables, the page, and what went wrong."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fisherbo.cli.output import print_json
from fisherbo.errors import FisherboError, MissingExtraError

if TYPE_CHECKING:
    from fisherbo.tuning import TuningResult
    from fisherbo.tuning.final import Final
    from fisherbo.tuning.tasks import Task


def tell(
    arguments: argparse.Namespace,
    task: Task,
    results: list[TuningResult],
    page: Path,
    model: Path,
) -> int:
    """Make the model, write the page, print the tables; the exit code.

    Args:
        arguments: of the command.
        task: what was tuned.
        results: of its studies.
        page: where the report goes.
        model: where the model goes, of a task that has one.

    Raises:
        FisherboError: an optimizer has no complete trial.
    """
    from fisherbo.tuning.final import finish
    from fisherbo.tuning.report import write_html
    from fisherbo.tuning.result import failures

    complete = [result for result in results if result.best_trial is not None]
    written: Path | None = page
    final = None
    if task.learned is not None and complete:
        if arguments.watched:
            print("fisherbo: training on all rows but the test ...", file=sys.stderr)
        final = finish(task, complete)
        final.model.save(model)
    try:
        write_html(results, page, final)
    except MissingExtraError as error:
        print(f"fisherbo: no HTML report: {error}", file=sys.stderr)
        written = None
    _say(arguments, task, results, final, written, model)
    for result in results:
        if result.best_trial is None:
            reasons = failures(result.study) or [_nothing_complete(result)]
            raise FisherboError(f"no trial of {result.optimizer} is complete: {reasons[0]}")
    return 0


def _nothing_complete(result: TuningResult) -> str:
    return "all were pruned" if result.counts.done else "the time was over before one began"


def _say(
    arguments: argparse.Namespace,
    task: Task,
    results: list[TuningResult],
    final: Final | None,
    page: Path | None,
    model: Path,
) -> None:
    """The tables for people, or JSON for programs, and where the model and the report are."""
    from rich.console import Console

    from fisherbo.tuning.final import print_scores
    from fisherbo.tuning.report import as_json, print_table

    if arguments.format == "json":
        print_json(
            {
                "results": [as_json(result) for result in results],
                "report": None if page is None else str(page),
                "model": None if final is None else {"file": str(model), **final.as_json()},
            }
        )
        return
    if arguments.quiet:
        return
    if task.learned is not None and not arguments.watched:
        print("\n".join(notes(task)))
    console = Console()
    print_table(results, console)
    _say_failures(results)
    for result in results:
        if result.best_trial is not None:
            falls = f", lr falling to 0 in {result.max_steps} steps" * (task.schedule == "linear")
            print(f"best {result.optimizer}: {result.best_call}{falls}")
    if task.learned is None:
        option = "--task classification" if task.name.startswith("digits-") else "--target COLUMN"
        print(f"no model is saved of an autoencoder; {option} makes one that predicts")
    if final is not None:
        print_scores(final, console)
        print(f"model: {model} ({final.optimizer}; fisherbo predict {model} --data NEW.csv)")
    if page is not None:
        print(f"report: {page}")


def notes(task: Task) -> list[str]:
    """What was done to the table's rows, a line each."""
    first, *others = task.notes
    return [f"{task.name}: {first}", *(f"  {note}" for note in others)]


def _say_failures(results: list[TuningResult]) -> None:
    """Why trials failed, each reason once."""
    from fisherbo.tuning.result import failures

    for result in results:
        for reason, count in Counter(failures(result.study)).items():
            print(f"{count} of {result.counts.done} {result.optimizer} trials failed: {reason}")
