"""Figures of what a study's trials found: response map, parallel coordinates, Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.visualization.style import (
    COLOURS,
    GREY,
    PANORAMA,
    SCALE,
    SEQUENCE,
    graph_objects,
    lay_out,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CONTOUR_TRIALS = 12  # fewer points say too little about a surface
_GRID = 40
_BANDWIDTH = 0.12  # of the contour's kernel, in widths of the search space

Array = npt.NDArray[np.float64]


def plot_response_map(
    study: Study,
    params: tuple[str, str] = ("lr", "damping"),
    *,
    value: str = "objective value",
    title: str | None = None,
) -> Figure:
    """Figure of the value over two parameters: the trials, and contours where there are enough.

    Contours are a kernel average of the trials in the plane of the search space, shown for the eye;
    the trials are the data. Pruned and failed trials are open marks without a value.

    Args:
        study: the study.
        params: names of the parameters on the two axes.
        value: what the value is called, with its unit.
        title: title of the figure.

    Raises:
        InvalidInputError: no trial of the study has both parameters.
        MissingExtraError: plotly is not installed.
    """
    go = graph_objects()
    trials = [t for t in study.get_trials(deepcopy=False) if set(params) <= t.params.keys()]
    if not trials:
        raise InvalidInputError(
            f"no trial of study {study.study_name!r} has the parameters {params}; "
            "name two that are in its search space"
        )
    complete = [trial for trial in trials if trial in _complete(study)]
    figure = go.Figure()
    if len(complete) >= CONTOUR_TRIALS:
        figure.add_trace(_contour(go, complete, params))
    _add_unscored(figure, [trial for trial in trials if trial not in complete], params)
    figure.add_scatter(
        x=[trial.params[params[0]] for trial in complete],
        y=[trial.params[params[1]] for trial in complete],
        text=[f"trial {trial.number}: {trial.value:.4g}" for trial in complete],
        name="complete", mode="markers",
        marker={
            "color": [trial.value for trial in complete], "colorscale": SCALE, "size": 11,
            "line": {"color": "white", "width": 1}, "colorbar": {"title": value},
        },
    )  # fmt: skip
    lay_out(figure, title or f"Response over {params[0]} and {params[1]}", params[0])
    figure.update_xaxes(type=_axis(trials, params[0]))
    figure.update_yaxes(title=params[1], type=_axis(trials, params[1]))
    figure.update_layout(legend={"orientation": "h", "y": -0.25})
    return figure


def plot_parallel_coordinate(
    study: Study,
    params: list[str] | None = None,
    *,
    target: Callable[[FrozenTrial], float] | None = None,
    target_name: str = "objective value",
    title: str | None = None,
) -> Figure:
    """Optuna's parallel coordinates of a study's complete trials, with a title.

    Args:
        study: the study.
        params: parameters to show; all if None.
        target: what to show of a trial; the first objective if None.
        target_name: what that is called, with its unit.
        title: title of the figure.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    graph_objects()
    from optuna.visualization import plot_parallel_coordinate as optunas

    shown = _first_value if target is None else target
    figure = optunas(study, params, target=shown, target_name=target_name)
    minimize = target is not None or study.directions[0] == StudyDirection.MINIMIZE
    _colour_lines(figure, best_is_least=minimize)
    figure.update_layout(title=title or "Parallel coordinates of the complete trials")
    figure.update_layout(meta=PANORAMA)
    return figure


def _colour_lines(figure: Figure, *, best_is_least: bool) -> None:
    """Colour Optuna's lines, whose first height is that of the value from 0 to 1."""
    from plotly.colors import sample_colorscale

    for trace in figure.data:
        if trace.mode == "lines" and trace.customdata is not None:
            share = 1 - trace.y[0] if best_is_least else trace.y[0]
            trace.update(line_color=sample_colorscale(SEQUENCE, share)[0], opacity=0.8)
        elif trace.mode == "markers":
            trace.marker.update(colorscale=SEQUENCE, reversescale=best_is_least)


def plot_pareto_front(study: Study, *, title: str | None = None) -> Figure:
    """Optuna's figure of the trials in the space of 2 or 3 objectives, the front in one colour.

    Raises:
        InvalidInputError: the study has another number of objectives.
        MissingExtraError: plotly is not installed.
    """
    graph_objects()
    count = len(study.directions)
    if count not in (2, 3):
        raise InvalidInputError(f"study must have 2 or 3 objectives for a front, got {count}")
    from optuna.visualization import plot_pareto_front as optunas

    names = [f"objective {j}" for j in range(count)]
    figure = optunas(study, target_names=names)
    marks = {"Trial": ("trial", GREY), "Best Trial": ("Pareto front", COLOURS[1])}
    for trace in figure.data:
        kind = trace.marker.colorbar.title.text
        if kind in marks:
            name, colour = marks[kind]
            symbol = "circle-open" if kind == "Trial" else "circle"
            trace.marker = {"color": colour, "symbol": symbol, "size": 7}
            trace.update(name=name, showlegend=True)
    lay_out(figure, title or "Trials and the Pareto front")
    return figure


def _first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _complete(study: Study) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]


def _axis(trials: list[FrozenTrial], name: str) -> str:
    return "log" if getattr(trials[0].distributions[name], "log", False) else "linear"


def _add_unscored(figure: Figure, trials: list[FrozenTrial], params: tuple[str, str]) -> None:
    for state, symbol in ((TrialState.PRUNED, "circle-open"), (TrialState.FAIL, "x-thin-open")):
        chosen = [trial for trial in trials if trial.state == state]
        figure.add_scatter(
            x=[trial.params[params[0]] for trial in chosen],
            y=[trial.params[params[1]] for trial in chosen],
            text=[f"trial {trial.number}" for trial in chosen],
            name="failed" if state == TrialState.FAIL else "pruned", mode="markers",
            marker={"symbol": symbol, "color": "#555555", "size": 9},
        )  # fmt: skip


def _contour(go: Any, trials: list[FrozenTrial], params: tuple[str, str]) -> Any:
    """Gaussian kernel average of the values on a grid, each axis in the scale of its parameter."""
    axes = [_coordinate(trials, name) for name in params]
    units = [(points - grid[0]) / (grid[-1] - grid[0]) for points, grid, _ in axes]
    line = np.linspace(0, 1, _GRID)
    x, y = np.meshgrid(line, line)
    squares = (x[..., None] - units[0]) ** 2 + (y[..., None] - units[1]) ** 2
    weights = np.exp(-0.5 * squares / _BANDWIDTH**2) + 1e-12
    values = np.array([trial.value for trial in trials], dtype=float)
    return go.Contour(
        x=axes[0][2], y=axes[1][2], z=(weights * values).sum(-1) / weights.sum(-1),
        colorscale=SCALE, opacity=0.6, showscale=False, hoverinfo="skip",
        contours={"coloring": "heatmap"}, line={"width": 0.5},
    )  # fmt: skip


def _coordinate(trials: list[FrozenTrial], name: str) -> tuple[Array, Array, Array]:
    """Trials' coordinates and a grid over the parameter's range, log where it is, and the ticks."""
    distribution: Any = trials[0].distributions[name]
    low, high = float(distribution.low), float(distribution.high)
    points = np.array([trial.params[name] for trial in trials], dtype=float)
    if not distribution.log:
        grid = np.linspace(low, high, _GRID)
        return points, grid, grid
    grid = np.linspace(math.log(low), math.log(high), _GRID)
    return np.log(points), grid, np.exp(grid)
