"""The posterior over two parameters with its Fisher metric, and two ways up the acquisition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.study import Study

from fisherbo.acquisition.feasibility import unrestricted
from fisherbo.acquisition.protocol import Acquisition
from fisherbo.errors import InvalidInputError
from fisherbo.geometry.lapack import eigh
from fisherbo.gp.fisher import damped_metric
from fisherbo.gp.kernel import CURVATURE
from fisherbo.optimize.descent import LocalModel, natural_ascent
from fisherbo.sampler.inspect import Inspection
from fisherbo.sampler.next_trial import inspected
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.space import Array, Mask
from fisherbo.visualization import view
from fisherbo.visualization.style import COLOURS, GREY, SCALE, graph_objects, lay_out

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_GRID = 61
_ELLIPSES = (0.1, 0.3, 0.5, 0.7, 0.9)
_STARTS = ((0.15, 0.2), (0.85, 0.15), (0.2, 0.85))
_DAMPING = 0.3  # of the metric, so that ellipses can be told apart
_STEPS = 300
_FIRST_STEP = 0.1  # of an ascent at most, in widths of the search space
_TYPICAL, _LARGEST = 0.05, 0.1  # longer half-axes of the ellipses, in widths of the search space
_ALIGNED = 1e-9
_ARM = 0.25  # longest arm of the kernel's axes, in widths of the search space


def plot_posterior_contour(
    study: Study,
    sampler: FisherSampler | None = None,
    *,
    params: tuple[str, str] | None = None,
    objective: int = 0,
    value: str = "objective value",
) -> Figure:
    """Figure of the posterior median over two parameters, its Fisher metric and two ascents.

    Each ellipse marks steps after which the prediction of the next observation differs by the same
    KL divergence, to second order and by the damped pull-back metric; half-axes longer than 0.1 of
    the search space are cut to that. Where the kernel is rotated, a cross at the best point shows
    its axes in the plane, with arms in proportion to the lengthscales. The paths climb the
    acquisition from the same points: by the natural gradient in the sampler's metric, and by the
    Euclidean gradient with the same damping rule, with first steps of at most a tenth of the search
    space. Other parameters are held at the point of the best mean.

    Args:
        study: A study of any sampler.
        sampler: Whose model is shown; the study's own, or a new `FisherSampler`, if None.
        params: Two numeric parameters; if None, those of the shortest lengthscales that the best
            point has.
        objective: Which objective, of several.
        value: What the value is called, with its unit.

    Raises:
        InvalidInputError: The study has no value yet, or not two such parameters.
        MissingExtraError: plotly is not installed.
    """
    go = graph_objects()
    seen = inspected(study, sampler)
    axes = _axes(seen, params)
    at = seen.best(objective)
    plane = _Plane(seen, at, axes)
    figure = go.Figure(_median(plane, objective, value))
    for trace in (
        *_ellipses(plane, objective),
        *_kernel_axes(plane, objective),
        *_paths(plane),
        *_marks(plane, objective),
    ):
        figure.add_trace(trace)
    names = f"{axes[0].name} and {axes[1].name}"
    lay_out(figure, f"Posterior median over {names}, Fisher ellipses and ascents", height=640)
    for update, drawn in zip((figure.update_xaxes, figure.update_yaxes), axes, strict=True):
        ends = [_number(drawn.ticks[0]), _number(drawn.ticks[-1])]
        limits = np.log10(ends) if drawn.kind == "log" else ends
        update(title=drawn.name, type=drawn.kind, range=list(limits))
    ground = {"bgcolor": "#DDDDDD", "font": {"color": "#1C1C1C"}}  # white lines are seen on it
    figure.update_layout(legend={"orientation": "h", "y": -0.15, **ground})
    return figure


@dataclass(frozen=True)
class _Plane:
    """Two coordinates that vary, others held at a point."""

    seen: Inspection
    at: Array
    axes: tuple[view.Axis, view.Axis]

    @property
    def index(self) -> list[int]:
        return [drawn.index for drawn in self.axes]

    def points(self, u: Array) -> Array:
        """Coordinates ``(b, d)`` of points of the plane ``(b, 2)``."""
        points = np.tile(self.at, (len(u), 1))
        points[:, self.index] = u
        return points

    def ticks(self, u: Array) -> tuple[Array, Array]:
        """Parameter values of points of the plane ``(b, 2)``, between grid values too."""
        space = self.seen.space.part(np.array(self.index))
        low, high = space.low, space.high
        logs = np.log(np.where(space.log, low, 1.0)), np.log(np.where(space.log, high, 1.0))
        straight = low + u * (high - low)
        curved = np.exp(logs[0] + u * (logs[1] - logs[0]))
        values = np.where(space.log, curved, straight)
        return values[:, 0], values[:, 1]


def _axes(seen: Inspection, params: tuple[str, str] | None) -> tuple[view.Axis, view.Axis]:
    if params is None:
        order = view.chosen(seen, None, len(seen.search_space))
        there = dict(zip(seen.search_space, seen.space.exists(seen.best()).tolist(), strict=True))
        order = sorted(order, key=lambda name: not there[name])  # those of the best point first
        numeric = [n for n in order if view.axis(seen, n).kind != "category"]
        params = (numeric[0], numeric[1]) if len(numeric) > 1 else ("", "")
    if len(params) != 2 or "" in params:
        raise InvalidInputError(
            f"params must be two numeric parameters of {sorted(seen.search_space)}, got "
            f"{params!r}; see plot_posterior_slice for others"
        )
    axes = view.axis(seen, params[0], _GRID), view.axis(seen, params[1], _GRID)
    for drawn in axes:
        if drawn.kind == "category":
            raise InvalidInputError(
                f"params must be numeric, got the categorical {drawn.name!r}; "
                "see plot_posterior_slice for it"
            )
    return axes


def _median(plane: _Plane, objective: int, value: str) -> Any:
    line = np.linspace(0, 1, _GRID)
    u = np.stack(np.meshgrid(line, line), -1).reshape(-1, 2)
    median = plane.seen.quantiles(plane.points(u), np.zeros(1), objective).reshape(_GRID, _GRID)
    across, up = plane.ticks(np.stack([line, line], 1))
    return graph_objects().Contour(
        x=across, y=up, z=median, colorscale=SCALE, colorbar={"title": value}, line={"width": 0.5},
        name="median", hovertemplate="%{x:.4g}, %{y:.4g}: %{z:.4g}<extra>median</extra>",
    )  # fmt: skip


def _ellipses(plane: _Plane, objective: int) -> Any:
    """Outlines of ``½ δᵀ G δ = KL`` around points of a lattice, one trace with gaps."""
    centre = np.stack(np.meshgrid(_ELLIPSES, _ELLIPSES), -1).reshape(-1, 2)
    surrogate, points = plane.seen.surrogate(objective), plane.points(centre)
    metric = damped_metric(surrogate, points, _DAMPING)[:, plane.index][:, :, plane.index]
    length, axes = eigh(metric)
    unit = np.sqrt(2 / length)  # half-axes of a step of one nat
    scale = _TYPICAL / np.median(unit.max(-1))
    radius = np.minimum(scale * unit, _LARGEST)
    angle = np.linspace(0, 2 * np.pi, 41)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    outline = centre[:, None] + (circle * radius[:, None]) @ axes.mT
    gaps = np.concatenate([outline, np.full((len(centre), 1, 2), np.nan)], 1).reshape(-1, 2)
    x, y = plane.ticks(gaps)
    yield graph_objects().Scatter(
        x=x, y=y, mode="lines", line={"color": "white", "width": 1.5}, hoverinfo="skip",
        name=f"Fisher metric: {scale**2:.2g} nats",
    )  # fmt: skip


def _kernel_axes(plane: _Plane, objective: int) -> Any:
    """Principal axes of the kernel in the plane, if they are not the parameters' own.

    With the other parameters held, distances are those of the block of ``Λ ∝ Rᵀ diag(ℓ)⁻² R``.
    """
    surrogate = plane.seen.surrogate(objective)
    if surrogate.gradient_axes is None:
        return
    within = surrogate.gradient_axes[plane.index]
    metric = within @ within.T / (CURVATURE * surrogate.variance)
    if abs(metric[0, 1]) < _ALIGNED * np.sqrt(metric[0, 0] * metric[1, 1]):
        return
    steepness, axes = eigh(metric)
    lengthscale = 1 / np.sqrt(steepness)
    share = min(1.0, _ARM / float(lengthscale.max()))
    arms = axes.T * (share * lengthscale)[:, None]
    gap, centre = np.full(2, np.nan), plane.at[plane.index]
    x, y = plane.ticks(np.array([p for arm in arms for p in (centre - arm, centre + arm, gap)]))
    yield graph_objects().Scatter(
        x=x, y=y, mode="lines", line={"color": "black", "width": 2, "dash": "dot"},
        hoverinfo="skip", name=f"kernel's axes: {share:.2g} lengthscales",
    )  # fmt: skip


def _paths(plane: _Plane) -> Any:
    movable = np.zeros(plane.seen.space.dimension, dtype=bool)
    movable[plane.index] = True
    acquisition = unrestricted(plane.seen.acquisition)
    kinds = {"natural gradient": (False, COLOURS[1]), "Euclidean gradient": (True, COLOURS[3])}
    for name, (euclidean, colour) in kinds.items():
        climbs = [
            climb(acquisition, plane.points(np.array([start]))[0], movable, euclidean=euclidean)
            for start in _STARTS
        ]
        for number, path in enumerate(climbs):
            x, y = plane.ticks(path[:, plane.index])
            yield graph_objects().Scatter(
                x=x, y=y, mode="lines+markers", name=name, legendgroup=name,
                showlegend=number == 0, line={"color": colour, "width": 2}, marker={"size": 5},
            )  # fmt: skip


def climb(acquisition: Acquisition, start: Array, movable: Mask, *, euclidean: bool) -> Array:
    """Points that an ascent from ``start`` ``(d,)`` moves through, shape ``(steps, d)``.

    Args:
        acquisition: What it climbs.
        start: Where it begins.
        movable: Coordinates that may move, shape ``(d,)``.
        euclidean: Whether the metric is the identity in place of the acquisition's.
    """
    path, heights = [start], [-np.inf]

    def local(x: Array) -> LocalModel:
        found = acquisition.evaluate(x)
        flat = LocalModel(
            found.value,
            found.gradient,
            np.ones_like(found.diagonal),
            np.zeros((*found.gradient.shape, 1)),
        )
        return flat if euclidean else found

    def watched(x: Array) -> LocalModel:
        found = local(x)
        if found.value[0] > heights[-1]:
            path.append(x[0])
            heights.append(float(found.value[0]))
        return found

    first = local(start[None])
    longest = float(np.linalg.norm((first.gradient / first.diagonal)[0, movable]))
    damping = max(longest, 1e-6) / _FIRST_STEP
    natural_ascent(watched, start[None], movable, damping=damping, max_steps=_STEPS)
    return np.array(path)


def _marks(plane: _Plane, objective: int) -> Any:
    """The trials, fainter away from the plane, the best point and the next one."""
    go, seen = graph_objects(), plane.seen
    x, _ = seen.observed(objective)
    near = 0.1 + 0.9 * view.nearness(seen, x, plane.at, plane.index)
    columns = plane.ticks(x[:, plane.index])
    yield go.Scatter(
        x=columns[0], y=columns[1], mode="markers", name="trials",
        marker={"color": GREY, "size": 7, "opacity": near, "line": {"color": "white", "width": 1}},
    )  # fmt: skip
    marks = [("best point", plane.at, "diamond", COLOURS[2])]
    if seen.next is not None:
        marks.append(("next trial", seen.next, "star", COLOURS[4]))
    for name, point, symbol, colour in marks:
        across, up = plane.ticks(point[None, plane.index])
        yield go.Scatter(
            x=across, y=up, mode="markers", name=name,
            marker={"color": colour, "size": 14, "symbol": symbol, "line": {"width": 1}},
        )  # fmt: skip


def _number(tick: Any) -> float:
    return float(tick)
