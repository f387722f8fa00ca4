"""Candidates of a BoTorch acquisition by natural-gradient ascent, as a candidate generator."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from botorch.acquisition.acquisition import AcquisitionFunction, OneShotAcquisitionFunction
from botorch.optim.utils import columnwise_clamp
from torch import Tensor
from torch.quasirandom import SobolEngine

from fisherbo.botorch.metric import DiagonalMetric, expected_metric_diagonal, model_of
from fisherbo.botorch.region import Climb, begin, climb
from fisherbo.errors import InvalidInputError
from fisherbo.space import Array, Mask

FixedFeatures = Mapping[int, float | Tensor]

_REFERENCE = 32  # points over which the metric is averaged
_LOOSE, _TIGHT = 1e-3, 1e-11  # least promise of a step, in units of the range of values climbed
_EXCHANGES = 8  # sets that an exchange of points lets climb, ...
_ROUNDS = 4  # ... and how often
_ALIKE = 0.1  # distance, in units of the metric, below which points are not exchanged
_POOL = 128  # points of other sets of which exchanges are made
_CHUNK = 512  # sets of points in one evaluation


def gen_candidates_natural(
    initial_conditions: Tensor,
    acquisition_function: AcquisitionFunction,
    lower_bounds: float | Tensor | None = None,
    upper_bounds: float | Tensor | None = None,
    inequality_constraints: list[tuple[Tensor, Tensor, float]] | None = None,
    equality_constraints: list[tuple[Tensor, Tensor, float]] | None = None,
    nonlinear_inequality_constraints: list[tuple[Callable[..., Any], bool]] | None = None,
    options: dict[str, Any] | None = None,
    fixed_features: FixedFeatures | None = None,
    timeout_sec: float | None = None,
    best_only: bool = False,
    metric: DiagonalMetric = expected_metric_diagonal,
) -> tuple[Tensor, Tensor]:
    """Candidates and their values, from initial conditions of shape ``(b, q, d)`` or ``(q, d)``.

    Pass it as ``gen_candidates`` to BoTorch's optimizers of acquisitions.

    Args:
        initial_conditions: Where the ascents begin.
        acquisition_function: What is maximised: a differentiable acquisition of a BoTorch model.
        lower_bounds: Lower bound of each coordinate.
        upper_bounds: Upper bound of each coordinate.
        inequality_constraints: Refused.
        equality_constraints: Refused.
        nonlinear_inequality_constraints: Refused.
        options: ``maxiter``, the largest number of steps of an ascent (default 200).
        fixed_features: Values of coordinates that do not move: numbers, or tensors of shape
            ``(b,)`` or ``(b, q)``.
        timeout_sec: Seconds after which the ascent stops where it is.
        best_only: Whether only the best candidate matters: starts that can no longer overtake it
            are dropped early, and points of joint candidates are exchanged between starts.
        metric: Diagonal metric of the ascent; by default the posterior's expected information.

    Returns:
        Candidates of the shape of ``initial_conditions``, and values of shape ``(b,)``.

    Raises:
        InvalidInputError: If a constraint or an unknown option is given, or the acquisition has no
            BoTorch model or no gradient.
    """
    refuse_constraints(
        inequality_constraints=inequality_constraints,
        equality_constraints=equality_constraints,
        nonlinear_inequality_constraints=nonlinear_inequality_constraints,
    )
    ascent_steps = _max_steps(options or {})
    features = fixed_features or {}
    shape = initial_conditions.shape
    start = columnwise_clamp(
        initial_conditions.detach().reshape(-1, *shape[-2:]), lower_bounds, upper_bounds, True
    )
    start = _fixed(start, features)
    fixed = [j % shape[-1] for j in features]
    chart = _chart(start, acquisition_function, metric, lower_bounds, upper_bounds, fixed)
    deadline = np.inf if timeout_sec is None else time.monotonic() + timeout_sec
    ascent = _Ascent(chart, ascent_steps, deadline)
    if best_only:
        found = ascent.best(start, exchange=_may_exchange(acquisition_function, start, features))
    else:
        found = ascent.each(start)
    values = torch.from_numpy(found.value).to(start)
    return chart.points(found.z).reshape(shape), values


def _may_exchange(acquisition: AcquisitionFunction, start: Tensor, features: FixedFeatures) -> bool:
    """Whether the points of a set have equal roles and the sets may share them."""
    alike = all(torch.as_tensor(value).numel() == 1 for value in features.values())
    return start.shape[-2] > 1 and alike and not isinstance(acquisition, OneShotAcquisitionFunction)


def refuse_constraints(**constraints: object) -> None:
    """Pass if no constraint is given.

    Raises:
        InvalidInputError: If one is.
    """
    for name, value in constraints.items():
        if value:
            raise InvalidInputError(
                f"{name} must be None, got {len(value) if isinstance(value, list) else 1}: the "
                "natural gradient is taken in a box; use botorch.optim.optimize_acqf, or put the "
                "constraint into the acquisition (constraints=... of BoTorch's MC acquisitions)"
            )


@dataclass(frozen=True)
class _WhiteCoordinates:
    """Sets of ``q`` points in coordinates whose metric is the identity, and an acquisition there.

    Attributes:
        acquisition: What is maximised.
        like: A set of points, of shape ``(1, q, d)``, whose type and device are asked for.
        scale: ``√Λ``, of shape ``(q d,)``; 1 where coordinates do not move.
        low: Bounds in these units, of the same shape.
        high: The same.
        movable: Which coordinates move, of the same shape.
    """

    acquisition: AcquisitionFunction
    like: Tensor
    scale: Array
    low: Array
    high: Array
    movable: Mask

    def points(self, z: Array) -> Tensor:
        """Sets of points ``(b, q, d)`` at coordinates ``(b, q d)``."""
        x = torch.from_numpy(np.clip(z, self.low, self.high) / self.scale)
        return x.to(self.like).reshape(-1, *self.like.shape[1:])

    def coordinates(self, x: Tensor) -> Array:
        """Coordinates of sets of points."""
        return _array(x.reshape(len(x), -1)) * self.scale

    def values(self, x: Tensor) -> Array:
        """The acquisition at many sets of points, shape ``(b,)``."""
        with torch.no_grad():
            parts = [self.acquisition(some).reshape(-1) for some in x.split(_CHUNK)]
        return _array(torch.cat(parts))

    def slope(self, z: Array) -> tuple[Array, Array]:
        """Values and gradients at coordinates ``(b, q d)``."""
        x = self.points(z).requires_grad_()
        with torch.enable_grad():
            value = self.acquisition(x).reshape(-1)
        if not value.requires_grad:
            raise InvalidInputError(
                f"acq_function must be differentiable, got a {type(self.acquisition).__name__} "
                "whose value has no gradient; use botorch.optim.optimize_acqf with "
                'options={"with_grad": False}'
            )
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return _array(value), _array(gradient.reshape(len(x), -1)) / self.scale


def _chart(
    start: Tensor,
    acquisition: AcquisitionFunction,
    metric: DiagonalMetric,
    lower: float | Tensor | None,
    upper: float | Tensor | None,
    fixed: list[int],
) -> _WhiteCoordinates:
    q, d = start.shape[-2:]
    movable = [j for j in range(d) if j not in fixed]
    scale = np.ones(d)
    if movable:
        reference = _reference(start.reshape(-1, d), lower, upper, movable)
        scale[movable] = np.sqrt(_array(metric(model_of(acquisition), reference, movable)))
    moves = np.isin(np.arange(d), movable)
    low = np.where(moves, _bound(lower, d, -np.inf) * scale, -np.inf)
    high = np.where(moves, _bound(upper, d, np.inf) * scale, np.inf)
    tiled = (np.tile(part, q) for part in (scale, low, high, moves & (low < high)))
    return _WhiteCoordinates(acquisition, start[:1], *tiled)


def _reference(
    points: Tensor, lower: float | Tensor | None, upper: float | Tensor | None, movable: list[int]
) -> Tensor:
    """Over which the metric is averaged: the starts, and others of the box where these are few."""
    d = points.shape[1]
    low, high = _bound(lower, d, -np.inf), _bound(upper, d, np.inf)
    missing = _REFERENCE - len(points)
    if missing <= _REFERENCE // 2 or not np.isfinite(high - low)[movable].all():
        return points[:_REFERENCE]
    unit = SobolEngine(len(movable)).fast_forward(1).draw(missing, dtype=torch.float64).numpy()
    fill = points[:1].repeat(missing, 1)
    wide = low[movable] + unit * (high - low)[movable]
    fill[:, movable] = torch.from_numpy(wide).to(points)
    return torch.cat([points, fill])


@dataclass(frozen=True)
class _Ascent:
    """How starts climb in a chart.

    Attributes:
        chart: Where.
        max_steps: Limit of each ascent.
        deadline: When to stop, by `time.monotonic`.
    """

    chart: _WhiteCoordinates
    max_steps: int
    deadline: float

    def each(self, start: Tensor) -> Climb:
        """Every start at a local maximum of its own."""
        here = begin(self.chart.slope, self.chart.coordinates(start))
        return self._climb(here, _TIGHT * _range(here.value, here.value), together=False)

    def best(self, start: Tensor, *, exchange: bool) -> Climb:
        """The starts, the highest of them at the best local maximum found."""
        here = begin(self.chart.slope, self.chart.coordinates(start))
        first = here.value
        here = self._climb(here, _LOOSE * _range(first, here.value))
        for _ in range(_ROUNDS if exchange else 0):
            small = _LOOSE * _range(first, here.value)
            before, here = here, self._exchanged(here, small)
            if here.value.max() <= before.value.max() + small:
                break
        top = here.take(np.array([here.leader]))
        top = self._climb(top, _TIGHT * _range(first, here.value))
        return here.put(np.array([here.leader]), top)

    def _climb(self, here: Climb, tolerance: float, *, together: bool = True) -> Climb:
        chart = self.chart
        return climb(
            chart.slope,
            here,
            chart.low,
            chart.high,
            chart.movable,
            tolerance=tolerance,
            max_steps=self.max_steps,
            together=together,
            expired=lambda: time.monotonic() > self.deadline,
        )

    def _exchanged(self, here: Climb, tolerance: float) -> Climb:
        """The climbers, the leader after points of others took the place of one of its own.

        Every point of every set is tried in every place of the best set (Fedorov's exchange); the
        sets of highest value climb on from there.
        """
        if time.monotonic() > self.deadline:
            return here
        sets = _exchanges(here, self.chart)
        if not len(sets):
            return here
        values = self.chart.values(sets)
        chosen = np.argsort(-values, kind="stable")[:_EXCHANGES]
        new = begin(self.chart.slope, self.chart.coordinates(sets[chosen]))
        new = self._climb(new, tolerance)
        if new.value.max() <= here.value.max():
            return here
        return here.put(np.array([here.leader]), new.take(np.array([new.leader])))


def _exchanges(here: Climb, chart: _WhiteCoordinates) -> Tensor:
    """The best set with each of its points replaced by each point elsewhere, ``(m, q, d)``."""
    q = chart.like.shape[1]
    leader = here.z[here.leader].reshape(q, -1)
    pool = leader
    best_first = np.argsort(-np.repeat(here.value, q), kind="stable")[:_POOL]
    for point in here.z.reshape(len(here.z) * q, -1)[best_first]:
        if np.linalg.norm(pool - point, axis=1).min() > _ALIKE:
            pool = np.concatenate([pool, point[None]])
    others = pool[q:]
    sets = np.tile(leader, (q, len(others), 1, 1))
    for place in range(q):
        sets[place, :, place] = others
    return chart.points(sets.reshape(q * len(others), -1))


def _range(first: Array, value: Array) -> float:
    """Of values climbed: from the middle of the first ones to the best; the scale of an ascent."""
    finite = first[np.isfinite(first)]
    best = float(value.max())
    if not len(finite):
        return 1.0
    return max(best - float(np.median(finite)), 1e-6 * abs(best), 1e-12)


def _max_steps(options: Mapping[str, Any]) -> int:
    unknown = sorted(set(options) - {"maxiter"})
    if unknown:
        raise InvalidInputError(
            f"options may have maxiter and those of the initial conditions, got {unknown}; "
            "leave out what belongs to L-BFGS-B or SLSQP"
        )
    steps = options.get("maxiter", 200)
    if not isinstance(steps, int) or steps < 0:
        raise InvalidInputError(f"options['maxiter'] must be a whole number >= 0, got {steps!r}")
    return steps


def _bound(bound: float | Tensor | None, d: int, none: float) -> Array:
    if bound is None:
        return np.full(d, none)
    return np.broadcast_to(_array(torch.as_tensor(bound)), (d,))


def _fixed(start: Tensor, features: FixedFeatures) -> Tensor:
    """The starts with fixed features at their values."""
    x = start.clone()
    for j, value in features.items():
        wide = torch.as_tensor(value).to(x)
        x[..., j] = wide[:, None] if wide.ndim == 1 and len(wide) == len(x) else wide
    return x


def _array(values: Tensor) -> Array:
    return values.detach().to("cpu", torch.float64).numpy()
