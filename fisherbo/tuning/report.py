"""The result of tuning one or several optimizers: a table to print and a page with figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table

from fisherbo.tuning.result import TuningResult
from fisherbo.visualization import (
    page,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_response_map,
    plot_training_monitor,
    plot_training_trace,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


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


def write_html(results: Sequence[TuningResult], path: Path) -> None:
    """Write a page with the table and the figures that needs no network; replaces it in one step.

    Raises:
        MissingExtraError: plotly is not installed.
        StorageError: the file cannot be written.
    """
    page.write(render(results), path)


def render(results: Sequence[TuningResult]) -> str:
    """The page's HTML, plotly's script included once.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    drawn = {f"figure-{index}": figure for index, figure in enumerate(figures(results))}
    names = ", ".join(result.study.study_name for result in results)
    title = f"Tuning of {', '.join(result.optimizer for result in results)}"
    return page.render(title, f"Studies: {names}", lines(results), drawn)


def figures(results: Sequence[TuningResult]) -> list[Figure]:
    """Traces against steps and CPU seconds, history, and maps of each study's parameters.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    first = results[0]
    traces = {result.optimizer: result.trace for result in results}
    value = objective_name(first)
    drawn = [
        plot_training_trace(traces, metric=first.metric, target=first.target),
        plot_training_trace(
            traces, against="cpu_seconds", metric=first.metric, target=first.target
        ),
        plot_optimization_history({r.optimizer: r.study for r in results}, target_name=value),
    ]
    for result in results:
        drawn += _of_study(result, value)
    return drawn


def objective_name(result: TuningResult) -> str:
    """What the value of a trial is called."""
    if result.target is None:
        return result.metric
    return f"log10(steps to {result.metric} {result.target:g})"


def _of_study(result: TuningResult, value: str) -> list[Figure]:
    """Response map and parallel coordinates, where trials allow them."""
    if result.best_trial is None:
        return []
    names = list(result.best_trial.params)
    drawn: list[Figure] = []
    if {"lr", "damping"} <= set(names):
        title = f"{result.optimizer}: {value} over lr and damping"
        drawn.append(plot_response_map(result.study, value=value, title=title))
    drawn.append(plot_training_monitor(result.best_trial, metric=result.metric))
    title = f"{result.optimizer}: parallel coordinates of the complete trials"
    return [*drawn, plot_parallel_coordinate(result.study, target_name=value, title=title)]


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
