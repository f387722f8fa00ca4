"""The expected Fisher metric of any BoTorch model's posterior, averaged over points.

Symbols: f_k the model's outputs, τ_k² their variances over the reference points; Λ the diagonal of
    Σ_k E[(∂f_k/∂x_j)² | D] / τ_k²,
the expected information of observations about the point (Tosi et al. 2014), by secants (see
`fisherbo.botorch.surrogate`). It changes as a metric does when a coordinate changes its units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from botorch.acquisition.fixed_feature import FixedFeatureAcquisitionFunction
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from botorch.posteriors.posterior_list import PosteriorList
from gpytorch.distributions import MultitaskMultivariateNormal
from torch import Tensor

from fisherbo.errors import InvalidInputError

_SECANT, _FLAT = 1e-2, 1e-4  # step of a secant, least Λ_j τ²; in units of the points' spread
_VARIANCE_FLOOR = 1e-12
_INNER = ("acq_func", "raw_acqf")  # names under which BoTorch's wrappers keep what they wrap

DiagonalMetric = Callable[[Model, Tensor, list[int]], Tensor]
"""A model, points ``(m, d)`` and coordinates that move, to the diagonal there, ``(k,)``, > 0."""


def model_of(acquisition: object) -> Model:
    """The model of an acquisition, or of what it wraps.

    Raises:
        InvalidInputError: If there is none, or it sees other inputs than the acquisition.
    """
    if isinstance(acquisition, FixedFeatureAcquisitionFunction):
        raise InvalidInputError(
            "acq_function must see all inputs of its model, got a FixedFeatureAcquisitionFunction; "
            "pass what it wraps, with fixed_features"
        )
    model = getattr(acquisition, "model", None)
    if isinstance(model, Model):
        return model
    inner = [part for name in _INNER if (part := getattr(acquisition, name, None)) is not None]
    if not inner:
        raise InvalidInputError(
            "acq_function must have a BoTorch model, whose posterior's Fisher metric is used, got "
            f"a {type(acquisition).__name__}; use botorch.optim.optimize_acqf for it"
        )
    return model_of(inner[0])


def expected_metric_diagonal(model: Model, points: Tensor, movable: list[int]) -> Tensor:
    """``Λ_j`` of the movable coordinates, shape ``(len(movable),)``, all positive.

    Args:
        model: Any model with a posterior.
        points: Over which the metric is averaged, shape ``(m, d)``.
        movable: Coordinates that may take any value; others keep theirs.
    """
    spread = points.std(0, correction=0)[movable]
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    middle = points.mean(0)[movable]
    step = _SECANT * torch.where(points[:, movable] > middle, -spread, spread)
    corners = points[:, None].repeat(1, len(movable), 1)
    corners[:, range(len(movable)), movable] += step
    with torch.no_grad():
        posterior = model.posterior(torch.cat([points[:, None], corners], 1))
        parts = [_information(mean, between, step, spread) for mean, between in _outputs(posterior)]
    return torch.stack(parts).sum(0)


def _information(mean: Tensor, between: Tensor, step: Tensor, spread: Tensor) -> Tensor:
    """One output's Λ, of means ``(m, *s, 1 + d)`` and covariances of the same points."""
    variance = between.diagonal(dim1=-2, dim2=-1)
    total = variance[..., 0].mean() + mean[..., 0].var(correction=0)
    total = total.clamp_min(_VARIANCE_FLOOR)
    unsure = variance[..., 1:] + variance[..., :1] - 2 * between[..., 0, 1:]
    squares = (mean[..., 1:] - mean[..., :1]) ** 2 + unsure.clamp_min(0)
    squares = squares.reshape(len(step), -1, step.shape[1]).mean(1)
    return torch.maximum((squares / step**2).mean(0) / total, _FLAT / spread**2)


def _outputs(posterior: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Means ``(m, *s, q)`` and covariances ``(m, *s, q, q)`` of each output."""
    if isinstance(posterior, PosteriorList):
        for part in posterior.posteriors:
            yield from _outputs(part)
    elif not isinstance(posterior, GPyTorchPosterior):
        mean, sd = posterior.mean, posterior.variance.sqrt()
        for k in range(mean.shape[-1]):  # the least variance of differences that there can be
            yield mean[..., k], sd[..., k, None] * sd[..., None, :, k]
    elif isinstance(posterior.distribution, MultitaskMultivariateNormal):
        yield from _tasks(posterior.distribution)
    else:
        yield posterior.distribution.mean, posterior.distribution.covariance_matrix


def _tasks(joint: MultitaskMultivariateNormal) -> Iterator[tuple[Tensor, Tensor]]:
    """The same of each task; GPyTorch's own indexing is slow, and warns."""
    matrix, (n, m) = joint.covariance_matrix, joint.mean.shape[-2:]
    order = (n, m, n, m) if joint._interleaved else (m, n, m, n)
    blocks = matrix.reshape(*matrix.shape[:-2], *order)
    for k in range(m):
        block = blocks[..., :, k, :, k] if joint._interleaved else blocks[..., k, :, k, :]
        yield joint.mean[..., k], block
