"""The result of tuning one or several optimizers: a table to print and a page with figures."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from fisherbo.tuning.final import score_lines
from fisherbo.tuning.notation import notation_of, value_name
from fisherbo.tuning.result import TuningResult
from fisherbo.visualization import (
    page,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_response_map,
    plot_training_monitor,
    plot_training_trace,
)
from fisherbo.visualization.drawings import CAPTIONS as OF_STUDIES
from fisherbo.visualization.trial_table import trial_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from fisherbo.tuning.final import Final

EXPERT = ("seconds", "run", "parallel")
"""Kinds of figures that are folded on the page."""
CAPTIONS = {
    "steps": "The metric of the best run of each optimizer while it was trained. A curve that is "
    "flat at the end has converged; one that turns up is overfitting; one that still falls may "
    "gain from more steps.",
    "seconds": "The same against time on the processor, since steps of different optimizers cost "
    "differently.",
    "history": "Each dot is a trial, which is a training run with one setting; the line is the "
    "best value until then. A line that has been flat for long says that further trials are "
    "unlikely to help much.",
    "map": "Each dot is a trial, coloured by its value. Good trials that lie together show which "
    "learning rates and dampings work.",
    "run": OF_STUDIES["run"],
    "parallel": OF_STUDIES["parallel"],
}
"""How to read each kind of figure."""


def lines(results: Sequence[TuningResult]) -> list[list[str]]:
    """The table as text: a line of names, then one line a quantity with a cell an optimizer."""
    first = results[0]
    has_target = first.target is not None
    goal = f" to {first.metric} {first.target:g}" if has_target else ""
    quantities: list[tuple[str, Callable[[TuningResult], str]]] = [
        ("best parameters", _params),
        (f"steps{goal}", _steps),
        (f"CPU seconds{goal}", _seconds),
        (_loss_name(first), _loss),
        ("trials complete / pruned / failed", _ends),
    ]
    if has_target:
        quantities.append(("trials that reach the target", _reached))
    if has_target and len(results) > 1:
        quantities += [
            (f"steps / those of {first.optimizer}", lambda result: _ratio(result, first, "steps")),
            (
                f"CPU seconds / those of {first.optimizer}",
                lambda result: _ratio(result, first, "cpu_seconds"),
            ),
        ]
    head = ["", *(result.optimizer for result in results)]
    return [head, *([name, *map(cell, results)] for name, cell in quantities)]


def as_json(result: TuningResult) -> dict[str, Any]:
    """What the table says of one optimizer, in JSON's own types."""
    return {
        "optimizer": result.optimizer,
        "study": result.study.study_name,
        "best_params": result.best_params,
        "best_value": result.best_value,
        "metric": result.metric,
        "best_call": result.best_call if result.best_trial else None,
        "best_loss": result.best_loss,
        "final_loss": result.final_loss,
        "target": result.target,
        "steps_to_target": result.steps_to_target,
        "cpu_seconds_to_target": result.cpu_seconds_to_target,
        "trials": asdict(result.counts),
    }


def print_table(results: Sequence[TuningResult], console: Console) -> None:
    """Print the table of the results."""
    head, *body = lines(results)
    table = Table(title=f"Tuning of {', '.join(head[1:])}", show_lines=True)
    for name in head:
        table.add_column(name, overflow="fold")
    for line in body:
        table.add_row(*line)
    console.print(table)


def write_html(results: Sequence[TuningResult], path: Path, final: Final | None = None) -> None:
    """Write a page with the tables and the figures that needs no network; replaces it in one step.

    Args:
        results: of the studies.
        path: the file.
        final: the model that was made of a table, if one was.

    Raises:
        MissingExtraError: plotly is not installed.
        StorageError: the file cannot be written.
    """
    page.write(render(results, final), path)


def render(results: Sequence[TuningResult], final: Final | None = None) -> str:
    """The page's HTML, plotly's script included once.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    drawn = figures(results)
    names = {name: name.split("-")[0] for name in drawn}
    optimizers = ", ".join(result.optimizer for result in results)
    settings = page.table_of(lines(results))
    calls = "".join(
        f"<pre>{html.escape(result.best_call)}</pre>" for result in results if result.best_trial
    )
    chosen = f"<section><h2>Best settings</h2>{settings}<p>Ready to paste:</p>{calls}</section>"
    return page.render(
        f"Tuning of {optimizers}" if final is None else f"A model of {final.problem.target_name}",
        _lead(results, final),
        lines(results) if final is None else score_lines(final),
        drawn,
        captions={name: CAPTIONS[kind] for name, kind in names.items()},
        folded=[name for name, kind in names.items() if kind in EXPERT],
        before=calls if final is None else f"{_of_table(final)}{chosen}",
        after="".join(
            page.trials_section(
                trial_table(result.study, notation_of(result.study)),
                f"Trials of {result.optimizer}",
                f"trials-{result.optimizer}",
            )
            for result in results
        ),
    )


def _lead(results: Sequence[TuningResult], final: Final | None) -> str:
    """What was done, and what to do next."""
    tried = " and ".join(f"{result.counts.done} of {result.optimizer}" for result in results)
    told = f"Settings tried: {tried}, each judged by {objective_name(results[0])}. "
    studies = ", ".join(result.study.study_name for result in results)
    if final is None:
        return f"{told}Studies: {studies}; run the command again with more trials to go on."
    return (
        f"{told}The model is a network trained by {final.optimizer} with the best setting on all "
        "rows but the test. The table shows what it scores on the test rows, which nothing was "
        "chosen by, beside simple and strong peers. Where two intervals overlap widely, the test "
        f"rows are too few to tell which is better. Studies: {studies}."
    )


def _of_table(final: Final) -> str:
    """HTML of what to know of the scores, and of what was done to the rows."""
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in final.notes)
    return (
        f"<p>{html.escape(f'{final.heading}. {final.caption}')}</p>"
        f"<section><h2>What was done to the rows</h2><ul>{notes}</ul></section>"
    )


def figures(results: Sequence[TuningResult]) -> dict[str, Figure]:
    """Traces against steps and CPU seconds, history, and maps of each study's parameters.

    Each has a name: its kind, and that of the optimizer where it is of one.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    first = results[0]
    traces = {result.optimizer: result.trace for result in results}
    value = objective_name(first)
    drawn = {
        "steps": plot_training_trace(traces, metric=first.metric, target=first.target),
        "seconds": plot_training_trace(
            traces, against="cpu_seconds", metric=first.metric, target=first.target
        ),
        "history": plot_optimization_history(
            {r.optimizer: r.study for r in results}, target_name=value
        ),
    }
    for result in results:
        drawn |= _of_study(result, value)
    return drawn


def objective_name(result: TuningResult) -> str:
    """What the value of a trial is called."""
    return value_name(result.metric, result.target)


def _of_study(result: TuningResult, value: str) -> dict[str, Figure]:
    """Response map, run and parallel coordinates, where trials allow them."""
    if result.best_trial is None:
        return {}
    name, best = result.optimizer, result.best_trial
    drawn: dict[str, Figure] = {}
    if {"lr", "damping"} <= set(best.params):
        title = f"{name}: {value} over lr and damping"
        drawn[f"map-{name}"] = plot_response_map(result.study, value=value, title=title)
    run = plot_training_monitor(best, metric=result.metric)
    run.update_layout(title=f"{name}: training run of trial {best.number}")
    title = f"{name}: parallel coordinates of the complete trials"
    parallel = plot_parallel_coordinate(result.study, target_name=value, title=title)
    relabelled = notation_of(result.study).relabel(parallel)
    return {**drawn, f"run-{name}": run, f"parallel-{name}": relabelled}


def _params(result: TuningResult) -> str:
    return "\n".join(f"{name} {_number(v)}" for name, v in result.best_params.items()) or "-"


def _loss_name(result: TuningResult) -> str:
    return f"best {result.metric}" if result.target is not None else f"{result.metric} at the end"


def _loss(result: TuningResult) -> str:
    return _number(result.best_loss if result.target is not None else result.final_loss)


def _ends(result: TuningResult) -> str:
    counts = result.counts
    return f"{counts.complete} / {counts.pruned} / {counts.failed}"


def _reached(result: TuningResult) -> str:
    return f"{result.counts.reached} of {result.counts.done}"


def _steps(result: TuningResult) -> str:
    if result.run is None:
        return "-"
    if result.target is None:
        return str(result.run.steps)
    if result.steps_to_target is not None:
        return str(result.steps_to_target)
    return f"> {result.run.steps} steps (best {result.metric} {result.best_loss:.3g})"


def _seconds(result: TuningResult) -> str:
    if result.run is None:
        return "-"
    if result.target is None:
        return f"{result.run.cpu_seconds:.1f}"
    if result.cpu_seconds_to_target is not None:
        return f"{result.cpu_seconds_to_target:.1f}"
    return f"> {result.run.cpu_seconds:.1f}"


def _ratio(
    result: TuningResult, first: TuningResult, quantity: Literal["steps", "cpu_seconds"]
) -> str:
    """Quantity over the first optimizer's; a bound where the target is not reached."""
    if result.run is None or first.run is None or first.steps_to_target is None:
        return "-"
    bound = "" if result.steps_to_target is not None else "> "
    unit = getattr(first.run, quantity)
    return f"{bound}{getattr(result.run, quantity) / unit:.1f}" if unit else "-"


def _number(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_number, value))
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
