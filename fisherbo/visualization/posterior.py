"""Figures of the model: slices of the posterior and of the acquisition through the best point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.study import Study

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.inspect import Inspection
from fisherbo.sampler.next_trial import inspected
from fisherbo.sampler.recommend import QUANTILE
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.space import Array
from fisherbo.visualization import view
from fisherbo.visualization.style import COLOURS, band, graph_objects, lay_out, place, subplots

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_MOST = 6
_DEPTH = 30.0  # nats below the next trial, which is a factor of 1e13 in expected improvement


def plot_posterior_slice(
    study: Study,
    sampler: FisherSampler | None = None,
    *,
    params: Sequence[str] | None = None,
    objective: int = 0,
    value: str = "objective value",
) -> Figure:
    """Figure of the posterior along each parameter, through the point of the best mean.

    The median and central 95% band of the noise-free objective in its own units, and the trials,
    darker the nearer they are to the slice.

    Args:
        study: A study of any sampler.
        sampler: Whose model is shown; the study's own, or a new `FisherSampler`, if None.
        params: Parameters; the six of the shortest lengthscales if None.
        objective: Which objective, of several.
        value: What the value is called, with its unit.

    Raises:
        InvalidInputError: The study has no value yet, or no such parameter or objective.
        MissingExtraError: plotly is not installed.
    """
    graph_objects()
    seen = inspected(study, sampler)
    _require_objective(seen, objective)
    names = view.chosen(seen, None if params is None else list(params), _MOST)
    columns = _columns(len(names))
    figure = subplots(len(names), columns, vertical_spacing=0.18)
    for number, name in enumerate(names):
        where = place(number, columns)
        for trace in _posterior_traces(seen, view.axis(seen, name), objective, number == 0):
            figure.add_trace(trace, **where)
        figure.update_xaxes(title=name, type=view.axis(seen, name).kind, **where)
    _, y = seen.observed(objective)
    several = f" of {value}" if len(seen.objectives) > 1 else ""
    title = f"Posterior{several} along each parameter through the best point"
    lay_out(figure, title, height=_height(len(names)))
    figure.update_yaxes(type=view.value_kind(y), matches="y")
    figure.update_yaxes(title=value, col=1)
    return figure


def plot_acquisition_slice(
    study: Study, sampler: FisherSampler | None = None, *, params: Sequence[str] | None = None
) -> Figure:
    """Figure of what the next trial maximises along each parameter, and of the point chosen.

    The acquisition, log expected improvement for one objective without constraints, in nats, along
    each parameter through the next trial's point. Gaps are where the next trial may not go, for
    example near known points while the best value is old. The axis ends 30 nats below the lower of
    the peak and the next trial; points below that are practically never chosen.

    Args:
        study: A study of any sampler.
        sampler: Whose acquisition is shown; the study's own, or a new `FisherSampler`, if None.
        params: Parameters; if None, of those that the next trial has the six of the shortest
            lengthscales.

    Raises:
        InvalidInputError: The study has no value yet, or no such parameter.
        MissingExtraError: plotly is not installed.
    """
    graph_objects()
    seen = inspected(study, sampler)
    if seen.next is None:
        raise InvalidInputError(
            "the next trial's point must be the model's choice, got one for the independent "
            "sampler; run more trials than n_startup_trials first"
        )
    there = dict(zip(seen.search_space, seen.space.exists(seen.next).tolist(), strict=True))
    names = [name for name in view.chosen(seen, None, len(there)) if there[name]][:_MOST]
    names = names if params is None else list(params)
    columns = _columns(len(names))
    figure = subplots(len(names), columns, vertical_spacing=0.18)
    for number, name in enumerate(names):
        where = place(number, columns)
        traces = list(_acquisition_traces(seen, seen.next, view.axis(seen, name), number == 0))
        for trace in traces:
            figure.add_trace(trace, **where)
        figure.update_xaxes(title=name, type=view.axis(seen, name).kind, **where)
        figure.update_yaxes(range=_range(*(np.array(trace.y) for trace in traces)), **where)
    title = "Acquisition along each parameter through the next trial"
    lay_out(figure, title, height=_height(len(names)))
    figure.update_yaxes(title="acquisition / nats", col=1)
    return figure


def _posterior_traces(seen: Inspection, drawn: view.Axis, objective: int, legend: bool) -> Any:
    go = graph_objects()
    at = view.through(seen, drawn.index, objective)
    z = np.array([0.0, -QUANTILE, QUANTILE])
    median, one, other = seen.quantiles(view.slice_points(at, drawn), z, objective)
    low, high = np.minimum(one, other), np.maximum(one, other)
    blue, orange = COLOURS[:2]
    shared: dict[str, Any] = {"showlegend": legend}
    if drawn.kind == "category":
        error = {"array": high - median, "arrayminus": median - low, "color": blue}
        yield go.Scatter(
            x=drawn.ticks, y=median, error_y=error, mode="markers", name="median, 95%",
            marker={"color": blue, "symbol": "diamond", "size": 9}, legendgroup="median", **shared,
        )  # fmt: skip
    else:
        yield band(drawn.ticks, low, high, blue, "95% band", legendgroup="band", **shared)
        yield go.Scatter(
            x=drawn.ticks, y=median, mode="lines", name="median", line={"color": blue},
            legendgroup="median", **shared,
        )  # fmt: skip
    x, y = seen.observed(objective)
    there = seen.space.exists(x)[:, drawn.index] & np.isfinite(y)
    opacity = 0.15 + 0.85 * view.nearness(seen, x[there], at, [drawn.index])
    yield go.Scatter(
        x=drawn.of(seen, x[there]), y=y[there], mode="markers", name="trials", legendgroup="trials",
        marker={"color": orange, "size": 7, "opacity": opacity}, **shared,
    )  # fmt: skip


def _acquisition_traces(seen: Inspection, at: Any, drawn: view.Axis, legend: bool) -> Any:
    go = graph_objects()
    points = np.concatenate([view.slice_points(at, drawn), at[None]])
    values = seen.acquisition.value(points)
    values = np.where(np.isfinite(values), values, np.nan)
    mode = "markers" if drawn.kind == "category" else "lines"
    yield go.Scatter(
        x=drawn.ticks, y=values[:-1], mode=mode, name="acquisition", legendgroup="acquisition",
        line={"color": COLOURS[2]}, marker={"color": COLOURS[2], "size": 9}, showlegend=legend,
    )  # fmt: skip
    yield go.Scatter(
        x=[drawn.tick(seen, at)], y=values[-1:], mode="markers", name="next trial",
        marker={"color": COLOURS[1], "symbol": "star", "size": 14}, legendgroup="next",
        showlegend=legend,
    )  # fmt: skip


def _require_objective(seen: Inspection, objective: int) -> None:
    if not 0 <= objective < len(seen.objectives):
        raise InvalidInputError(
            f"objective must be 0 to {len(seen.objectives) - 1}, got {objective!r}; "
            "it is the index of one of the study's objectives"
        )


def _height(panels: int) -> int:
    return 140 + 320 * -(-panels // _columns(panels))


def _columns(panels: int) -> int:
    return 2 if panels in (2, 4) else 3


def _range(curve: Array, star: Array) -> list[float] | None:
    """Ends of an axis of the acquisition that shows where it is large; None shows all of it."""
    found = np.concatenate([curve, star])
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    least, low, high = found.min(), min(found.max(), star[-1]) - _DEPTH, found.max()
    if not least < low:
        return None
    return [float(low), float(high + 0.05 * (high - low))]
