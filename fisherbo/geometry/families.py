"""Families of distributions: their coordinates and their Fisher information.

Distributions are batches of `torch.distributions`. The first chart of a family is the default:

    family              coordinates θ                          Fisher information F(θ)
    Bernoulli           probs p                                1/(p(1 − p))
                        logits                                 p(1 − p)
    Binomial, n         probs p                                n/(p(1 − p))
                        logits                                 n p(1 − p)
    Categorical, K      probs: the first K − 1 of p            diag(1/pᵢ) + 1/p_K
                        logits: all K; F is singular along 1   diag(p) − p pᵀ
    Poisson             rate λ                                 1/λ
    Exponential         rate λ                                 1/λ²
    Normal              loc μ, scale σ                         diag(1/σ², 2/σ²)
    MultivariateNormal  loc μ, covariance_matrix: lower        Σ⁻¹; ½ tr(Σ⁻¹Eᵢ Σ⁻¹Eⱼ), Eᵢ = ∂Σ/∂θᵢ
                        triangle of Σ, row by row
                        loc μ                                  Σ⁻¹

Sources: Amari (2016), § 2; the last rows are Magnus & Neudecker (1988), § 15.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    Distribution,
    Exponential,
    Independent,
    MultivariateNormal,
    Normal,
    Poisson,
    constraints,
)

from fisherbo.errors import InvalidInputError
from fisherbo.geometry.charts import Chart, constructor_chart, independent_chart, score_covariance

_MONTE_CARLO_SAMPLES = 20_000


def _one(value: Tensor) -> Tensor:
    """A 1 × 1 matrix for each member of a batch."""
    return value[..., None, None]


def _coin_variance(p: Bernoulli | Binomial) -> Tensor:
    return p.probs * (1 - p.probs)


def _categorical_fisher(p: Categorical) -> Tensor:
    inverse = 1 / p.probs
    return torch.diag_embed(inverse[..., :-1]) + _one(inverse[..., -1])


def _categorical_logits_fisher(p: Categorical) -> Tensor:
    probs = p.probs
    return torch.diag_embed(probs) - probs[..., :, None] * probs[..., None, :]


def _categorical_from_probs(_: Categorical, theta: Tensor) -> Categorical:
    last = 1 - theta.sum(-1, keepdim=True)
    return Categorical(probs=torch.cat([theta, last], -1), validate_args=False)


def _normal_fisher(p: Normal) -> Tensor:
    precision = p.scale**-2
    return torch.diag_embed(torch.stack([precision, 2 * precision], -1))


def _normal_from(_: Normal, theta: Tensor) -> Normal:
    loc, scale = theta.unbind(-1)
    return Normal(loc, scale, validate_args=False)


def _symmetric_basis(like: Tensor) -> Tensor:
    """Matrices Eᵢ with Σ = Σᵢ θᵢ Eᵢ for θ the lower triangle of Σ, shape ``(n(n+1)/2, n, n)``."""
    n = like.shape[-1]
    row, column = torch.tril_indices(n, n, device=like.device)
    basis = torch.zeros(len(row), n, n, dtype=like.dtype, device=like.device)
    index = torch.arange(len(row), device=like.device)
    basis[index, row, column] = 1
    basis[index, column, row] = 1
    return basis


def _covariance_fisher(p: MultivariateNormal) -> Tensor:
    change = p.precision_matrix[..., None, :, :] @ _symmetric_basis(p.scale_tril)  # Σ⁻¹Eᵢ
    return torch.einsum("...aij,...bji->...ab", change, change) / 2


def _multivariate_fisher(p: MultivariateNormal) -> Tensor:
    mean, spread = p.precision_matrix, _covariance_fisher(p)
    n, k = mean.shape[-1], spread.shape[-1]
    corner = mean.new_zeros(*mean.shape[:-2], n, k)
    top, bottom = torch.cat([mean, corner], -1), torch.cat([corner.mT, spread], -1)
    return torch.cat([top, bottom], -2)


def _multivariate_values(p: MultivariateNormal) -> Tensor:
    n = p.loc.shape[-1]
    row, column = torch.tril_indices(n, n, device=p.loc.device)
    return torch.cat([p.loc, p.covariance_matrix[..., row, column]], -1)


def _multivariate_from(like: MultivariateNormal, theta: Tensor) -> MultivariateNormal:
    n = like.event_shape[0]
    loc, lower = theta[..., :n], theta[..., n:]
    covariance = torch.einsum("...a,aij->...ij", lower, _symmetric_basis(loc))
    return MultivariateNormal(loc, covariance, validate_args=False)


def _from_rate(family: type[Poisson | Exponential]) -> Any:
    return lambda _, theta: family(theta[..., 0], validate_args=False)


FAMILIES: dict[type[Distribution], tuple[Chart, ...]] = {
    Bernoulli: (
        Chart(
            ("probs",),
            lambda p: p.probs[..., None],
            lambda _, theta: Bernoulli(probs=theta[..., 0], validate_args=False),
            lambda p: _one(1 / _coin_variance(p)),
        ),
        Chart(
            ("logits",),
            lambda p: p.logits[..., None],
            lambda _, theta: Bernoulli(logits=theta[..., 0], validate_args=False),
            lambda p: _one(_coin_variance(p)),
        ),
    ),
    Binomial: (
        Chart(
            ("probs",),
            lambda p: p.probs[..., None],
            lambda p, theta: Binomial(p.total_count, probs=theta[..., 0], validate_args=False),
            lambda p: _one(p.total_count / _coin_variance(p)),
        ),
        Chart(
            ("logits",),
            lambda p: p.logits[..., None],
            lambda p, theta: Binomial(p.total_count, logits=theta[..., 0], validate_args=False),
            lambda p: _one(p.total_count * _coin_variance(p)),
        ),
    ),
    Categorical: (
        Chart(
            ("probs",), lambda p: p.probs[..., :-1], _categorical_from_probs, _categorical_fisher
        ),
        Chart(
            ("logits",),
            lambda p: p.logits,
            lambda _, theta: Categorical(logits=theta, validate_args=False),
            _categorical_logits_fisher,
        ),
    ),
    Poisson: (
        Chart(
            ("rate",), lambda p: p.rate[..., None], _from_rate(Poisson), lambda p: _one(1 / p.rate)
        ),
    ),
    Exponential: (
        Chart(
            ("rate",),
            lambda p: p.rate[..., None],
            _from_rate(Exponential),
            lambda p: _one(p.rate**-2),
        ),
    ),
    Normal: (
        Chart(
            ("loc", "scale"),
            lambda p: torch.stack([p.loc, p.scale], -1),
            _normal_from,
            _normal_fisher,
        ),
    ),
    MultivariateNormal: (
        Chart(
            ("loc", "covariance_matrix"),
            _multivariate_values,
            _multivariate_from,
            _multivariate_fisher,
        ),
        Chart(
            ("loc",),
            lambda p: p.loc,
            lambda p, loc: MultivariateNormal(loc, scale_tril=p.scale_tril, validate_args=False),
            lambda p: p.precision_matrix,
        ),
    ),
}
"""The charts of each family whose Fisher information is known; the first is the default."""

_RANGES: dict[type[Distribution], dict[str, constraints.Constraint]] = {
    Bernoulli: {"probs": constraints.unit_interval},
    Binomial: {"probs": constraints.unit_interval, "total_count": constraints.nonnegative_integer},
    Categorical: {"probs": constraints.unit_interval},
    Poisson: {"rate": constraints.nonnegative},
    Exponential: {"rate": constraints.positive},
    Normal: {"loc": constraints.real, "scale": constraints.positive},
    MultivariateNormal: {"loc": constraints.real, "scale_tril": constraints.lower_cholesky},
}


def family_of(distribution: Distribution) -> type[Distribution] | None:
    """The entry of `FAMILIES` that a distribution belongs to, or None."""
    return next((family for family in FAMILIES if isinstance(distribution, family)), None)


def check_range(distribution: Distribution) -> None:
    """Refuse parameters that are out of range, which ``validate_args=False`` lets pass.

    Raises:
        InvalidInputError: If a parameter of a known family is out of range or not finite.
    """
    family = family_of(distribution)
    if family is None:
        return
    for name, constraint in _RANGES[family].items():
        value = getattr(distribution, name)
        if not (constraint.check(value).all() and torch.isfinite(value).all()):
            raise InvalidInputError(
                f"{name} of {family.__name__} must be finite and satisfy {constraint}, "
                f"got {value.detach()}"
            )


def _chart(distribution: Distribution, parameters: str | tuple[str, ...] | None) -> Chart:
    """The chart with these parameters, closed form where there is one."""
    names = (parameters,) if isinstance(parameters, str) else parameters
    if isinstance(distribution, Independent):
        return independent_chart(_chart(distribution.base_dist, names))
    family = family_of(distribution)
    charts = FAMILIES[family] if family else ()
    known = [chart for chart in charts if names is None or chart.names == names]
    return known[0] if known else constructor_chart(distribution, names)


def coordinates(
    distribution: Distribution, *, parameters: str | tuple[str, ...] | None = None
) -> Tensor:
    """Coordinates θ of distributions, shape ``(*b, k)``, in the chart of `fisher_information`.

    Raises:
        InvalidInputError: As `fisher_information`.
    """
    check_range(distribution)
    return _chart(distribution, parameters).values(distribution)


def from_coordinates(
    member: Distribution, theta: Tensor, *, parameters: str | tuple[str, ...] | None = None
) -> Distribution:
    """The distributions at coordinates θ ``(*b, k)``, in the family of ``member``.

    Raises:
        InvalidInputError: If θ leaves the family's range, and as `fisher_information`.
    """
    distribution = _chart(member, parameters).build(member, theta)
    check_range(distribution)
    return distribution


def fisher_information(
    distribution: Distribution,
    *,
    parameters: str | tuple[str, ...] | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Fisher information ``E[s sᵀ]``, s = ∇_θ log p, shape ``(*b, k, k)``.

    Closed form in the charts that the module lists; Monte Carlo for any other distribution or
    chart, with the constructor's arguments as coordinates, in order and flattened.
    `torch.distributions.Independent` gives one block for each component.

    Args:
        distribution: Batch shape ``(*b,)``.
        parameters: Names of the parameters that are coordinates. Default: the family's first
            chart, or all real arguments of the constructor (``probs``, not ``logits``, where free).
        samples: Draws of the Monte-Carlo estimate. Default: the closed form, or 20000 where none
            is known.
        seed: Seed of the draws; global random states are not changed.

    Raises:
        InvalidInputError: If a parameter is out of range, the information is infinite there (p = 0
            in the chart ``probs``), or the parameters cannot be coordinates.
    """
    check_range(distribution)
    chart = _chart(distribution, parameters)
    if samples is None and chart.fisher is not None:
        return _finite(chart.fisher(distribution), distribution, chart)
    draws = _MONTE_CARLO_SAMPLES if samples is None else samples
    return score_covariance(
        lambda theta: chart.build(distribution, theta),
        chart.values(distribution),
        samples=draws,
        seed=seed,
    )


def _finite(fisher: Tensor, distribution: Distribution, chart: Chart) -> Tensor:
    if torch.isfinite(fisher).all():
        return fisher
    remedy = ' or use parameters="logits"' if chart.names == ("probs",) else ""
    raise InvalidInputError(
        f"the Fisher information of {type(distribution).__name__} in {chart.names} is infinite at "
        f"the edge of the parameters' range; move them inside{remedy}"
    )
