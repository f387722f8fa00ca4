"""Any BoTorch model as a surrogate: its moments, and their gradients by autograd.

Symbols: μ, s posterior mean and standard deviation of f; C posterior covariance; P points under
evaluation, treated as observed at their means (kriging believer): μ stays and s² becomes
s² − C(x, P) (C(P, P) + ε I)⁻¹ C(P, x).

The damping Λ_j is E[(∂f/∂x_j)² | D] = (∂μ/∂x_j)² + Var(∂f/∂x_j | D), averaged over a reference set.
Its expectation over data drawn from the prior is the prior variance of ∂f/∂x_j, which `Posterior`
uses, and it transforms as a metric under a change of units. The derivatives are approximated by
secants, since a kernel need not have a second derivative at distance zero.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import torch
from botorch.exceptions.warnings import BotorchWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.models import ExactGP
from gpytorch.utils.warnings import GPInputWarning, NumericalWarning
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.linalg import cholesky, solve_lower
from fisherbo.gp.hyper import NOISE_FLOOR
from fisherbo.gp.posterior import Prediction
from fisherbo.space import Array

Factory = Callable[[Tensor, Tensor], Model]
"""``(train_X, train_Y) -> model``: float64 of shapes ``(n, d)`` in the cube and ``(n, 1)``."""

_VARIANCE_FLOOR = 1e-10
_SECANT = 1e-2  # step of a secant and ...
_FLAT = 1e-4  # ... least Λ_j, in units of the reference set's spread and of Var(f)
_ALONE = threading.RLock()


@dataclass(frozen=True)
class AutogradSurrogate:
    """A BoTorch model with one output, in evaluation mode, as the acquisition sees it.

    Attributes:
        model: The model; larger is better.
        reference: Points over which the damping is averaged, shape ``(m, d)``.
        pending: Points treated as observed at their means without noise, shape ``(p, d)``.
    """

    model: Model
    reference: Array
    pending: Array

    def mean(self, points: Array) -> Array:
        """Mean at points ``(b, d)``, shape ``(b,)``."""
        return self.predict(points)[0]

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at points ``(b, d)``, each of shape ``(b,)``."""
        with torch.no_grad():
            mean, sd = self._marginals(_tensor(points))
        return mean.numpy(), sd.numpy()

    def predict_with_gradient(self, points: Array) -> Prediction:
        """Marginals and gradients at points of shape ``(b, d)``, by two backward passes."""
        x = _tensor(points).requires_grad_()
        with torch.enable_grad():
            mean, sd = self._marginals(x)
        slopes = (_gradient(mean, x), _gradient(sd, x))
        return Prediction(mean.detach().numpy(), sd.detach().numpy(), *slopes)

    @cached_property
    def noise(self) -> float:
        """Mean noise variance τ² over the reference set, at least ``NOISE_FLOOR``."""
        if "observation_noise" not in signature(self.model.posterior).parameters:
            return NOISE_FLOOR
        x = _tensor(self.reference)[:, None]
        with torch.no_grad():
            noisy = self._posterior(x, observation_noise=True).variance
            return max(float((noisy - self._posterior(x).variance).mean()), NOISE_FLOOR)

    @property
    def variance(self) -> float:
        """``E[Var(f)]`` over the reference set: of its means, and about them."""
        return self._moments[0]

    @property
    def gradient_variance(self) -> Array:
        """``Λ``: mean squared secants of f over the reference set given the data, ``(d,)``."""
        return self._moments[1]

    @property
    def gradient_axes(self) -> None:
        """None: Λ is diagonal."""

    @cached_property
    def _moments(self) -> tuple[float, Array]:
        spread = self.reference.std(0)
        spread = np.where(spread > 0, spread, 1.0)
        step = _SECANT * np.where(self.reference > self.reference.mean(0), -spread, spread)
        corners = self.reference[:, None] + step[:, None] * np.eye(len(spread))
        stencil = np.concatenate([self.reference[:, None], corners], 1)  # (m, 1 + d, d)
        with torch.no_grad():
            posterior = self._posterior(_tensor(stencil))
            mean, variance = posterior.mean[..., 0], posterior.variance[..., 0]
            total = float(variance[:, 0].mean() + mean[:, 0].var(correction=0))
            squares = (mean[:, 1:] - mean[:, :1]) ** 2 + _variance_of_secants(posterior)
        total = max(total, _VARIANCE_FLOOR)
        slopes = (squares.double().numpy() / step**2).mean(0)
        return total, np.maximum(slopes, _FLAT * total / spread**2)

    @cached_property
    def is_gaussian(self) -> bool:
        """Whether several points have a joint normal posterior, as `believing` needs."""
        with torch.no_grad():
            return isinstance(self._posterior(_tensor(self.reference[:1])), GPyTorchPosterior)

    def believing(self, points: Array) -> AutogradSurrogate:
        """The surrogate with ``points`` ``(p, d)`` observed at their means, without noise."""
        return replace(self, pending=np.concatenate([self.pending, points]))

    def _marginals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        beside = _tensor(self.pending).expand(len(x), *self.pending.shape)
        posterior = self._posterior(torch.cat([x[:, None], beside], 1))
        mean, variance = _of_each_point(posterior.mean, x), _of_each_point(posterior.variance, x)
        if len(self.pending):
            across = posterior.distribution.covariance_matrix[:, 0, 1:].double()
            explained = solve_lower(self._factor, across.mT)
            variance = variance - explained.square().sum(0)
        return mean, variance.clamp_min(_VARIANCE_FLOOR).sqrt()

    def _posterior(self, x: Tensor, **options: Any) -> Any:  # BoTorch types only part of it
        return self.model.posterior(x, **options)

    @cached_property
    def _factor(self) -> Tensor:
        """Cholesky factor of ``C(P, P) + ε I``."""
        with torch.no_grad():
            among = self._posterior(_tensor(self.pending)).distribution.covariance_matrix
            return cholesky(among.double() + NOISE_FLOOR * torch.eye(len(among)).double())


def from_factory(factory: Factory, x: Array, y: Array, reference: Array) -> AutogradSurrogate:
    """The surrogate whose model a factory makes of ``x`` ``(n, d)`` and ``y`` ``(n,)``.

    A model in training mode is fitted by its exact marginal likelihood; one in evaluation mode is
    used as it is.

    Raises:
        InvalidInputError: If the factory returns anything else.
    """
    _require(not isinstance(factory, Model), "be a factory of models", "a model")
    model = factory(_tensor(x), _tensor(y)[:, None])
    _require(isinstance(model, Model), "return a BoTorch model", type(model).__name__)
    if model.training:
        got = f"a {type(model).__name__} in training mode"
        _require(isinstance(model, ExactGP), "return an exact GP or a model that is fitted", got)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return AutogradSurrogate(model, reference, np.empty((0, x.shape[1])))


def with_pending(
    surrogate: AutogradSurrogate, factory: Factory, x: Array, y: Array, pending: Array
) -> AutogradSurrogate:
    """The surrogate with ``pending`` points ``(p, d)`` treated as observed at their means.

    In closed form if the posterior is jointly normal; otherwise the factory makes a new model of
    the data and these values.
    """
    if not len(pending) or surrogate.is_gaussian:
        return surrogate.believing(pending)
    y = np.append(y, surrogate.predict(pending)[0])
    return from_factory(factory, np.concatenate([x, pending]), y, surrogate.reference)


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """A context with torch seeded by ``seed`` and warnings silenced; restores both on exit.

    GPyTorch's settings, torch's generator and the warning filters are global to the process, so
    only one thread at a time may enter.
    """
    with (
        _ALONE,
        torch.random.fork_rng(devices=[]),
        torch.enable_grad(),
        warnings.catch_warnings(),
    ):
        torch.default_generator.manual_seed(seed)
        for category in (BotorchWarning, GPInputWarning, NumericalWarning):
            warnings.simplefilter("ignore", category)
        yield


def _variance_of_secants(posterior: Any) -> Tensor:
    """``Var(f_j − f_0)`` of batches of points 0 … d, shape ``(m, d)``."""
    if not isinstance(posterior, GPyTorchPosterior):
        sd = posterior.variance[..., 0].sqrt()
        return (sd[:, 1:] - sd[:, :1]) ** 2  # the least that it can be
    covariance = posterior.distribution.covariance_matrix
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    return (variance[:, 1:] + variance[:, :1] - 2 * covariance[:, 0, 1:]).clamp_min(0)


def _of_each_point(values: Tensor, x: Tensor) -> Tensor:
    """The first of each batch of values ``(b, q, 1)``, float64 of shape ``(b,)``."""
    if values.ndim != 3 or len(values) != len(x) or values.shape[-1] != 1:
        got = f"a posterior mean of shape {tuple(values.shape)} at {len(x)} points"
        _require(False, "return a model with one output and no batch", got)
    return values[:, 0, 0].double()


def _gradient(values: Tensor, x: Tensor) -> Array:
    """Gradients of ``(b,)`` values, each in its own row of ``x``; 0 where they are constant."""
    if not values.requires_grad:
        return np.zeros(x.shape)
    (slope,) = torch.autograd.grad(values.sum(), x, retain_graph=True, allow_unused=True)
    return np.zeros(x.shape) if slope is None else slope.numpy()


def _require(rule: bool, wanted: str, got: str) -> None:
    if not rule:
        raise InvalidInputError(
            f"surrogate must {wanted}, got {got}; pass a callable (train_X, train_Y) -> model such "
            "as botorch.models.SingleTaskGP, or fit the model in it and return model.eval()"
        )


def _tensor(values: Array) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
