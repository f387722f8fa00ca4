"""The marginal likelihood of kernel hyperparameters, with its gradient and information.

Symbols: θ = (log ℓ_1 … log ℓ_d, log σ², log τ²); K = σ² ρ + diag(τ²/m_i); α = K⁻¹ y; K_i = ∂K/∂θ_i.
    −log p(y|θ)    ½ yᵀα + ½ log det K + const
    its gradient   ½ tr(K⁻¹ K_i) − ½ αᵀK_i α             (Rasmussen & Williams 2006, eq. 5.9)
    information    ½ αᵀK_i K⁻¹ K_j α: the mean of the Fisher information ½ tr(K⁻¹K_i K⁻¹K_j) and
                   the observed one, but for K's second derivatives. Unlike either alone it needs
                   no product of matrices (average information: Gilmour, Thompson & Cullis 1995)
By lengthscales, K_i = σ² exp(−t) ∘ Δ_i with Δ_i the squared distances along coordinate
i in units of t; expanded, products with all of them are a few products of n×n with n×e matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fisherbo.geometry import lapack
from fisherbo.gp.kernel import Embedding, distance, matern
from fisherbo.gp.replicates import Replicates
from fisherbo.kinds import Kinds
from fisherbo.space import Array, Integers


@dataclass(frozen=True)
class Likelihood:
    """A negative log marginal likelihood at one θ.

    Attributes:
        value: In nats.
        gradient: Shape ``(d + 2,)``.
        information: Positive semidefinite, shape ``(d + 2, d + 2)``.
    """

    value: float
    gradient: Array
    information: Array


@dataclass(frozen=True)
class MarginalLikelihood:
    """The negative log marginal likelihood of observations, as a function of θ; prior mean 0.

    Attributes:
        data: Values at ``n`` distinct points.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
    """

    data: Replicates
    choices: Integers | Kinds

    def __call__(self, theta: Array) -> Likelihood:
        """Its value, gradient and information at ``θ`` ``(d + 2,)``, in O(n³ + e n²).

        Raises:
            NumericalError: If the covariance is not positive definite even with jitter.
        """
        data, d, n = self.data, len(self.choices), len(self.data.y)
        signal, noise = math.exp(theta[d]), math.exp(theta[d + 1])
        z = self._columns * (self._owner @ np.exp(-theta[:d]))
        rho, slope = matern(distance(z, z))
        own = noise / data.count
        nugget = own + data.known
        gram = signal * rho
        gram.flat[:: n + 1] = signal + nugget
        factor = lapack.cholesky(gram)
        inverse = lapack.inverse(factor)
        alpha = inverse @ data.y
        value = 0.5 * (data.y @ alpha + lapack.log_determinant(factor) + n * math.log(2 * math.pi))
        diagonal, trace = inverse.diagonal(), np.empty(d + 2)  # tr(K⁻¹ K_i)
        trace[:d] = signal * _summed(z, slope * inverse) @ self._owner
        trace[d], trace[d + 1] = n - nugget @ diagonal, own @ diagonal
        pulled = np.empty((n, d + 2))  # K_i α
        pulled[:, :d] = signal * _pulled(z, slope, alpha) @ self._owner
        pulled[:, d] = data.y - nugget * alpha
        pulled[:, d + 1] = own * alpha
        gradient = 0.5 * (trace - alpha @ pulled)
        information = 0.5 * (pulled.T @ (inverse @ pulled))
        again, scatter = data.count.sum() - n, data.scatter / noise  # of repeated observations
        value += 0.5 * (again * math.log(2 * math.pi * noise) + np.log(data.count).sum() + scatter)
        gradient[-1] += 0.5 * (again - scatter)
        information[-1, -1] += 0.5 * scatter
        return Likelihood(float(value), gradient, information)

    @cached_property
    def _columns(self) -> Array:
        """Embedded points for lengthscales of 1, shape ``(n, e)``."""
        return Embedding.of(np.ones(len(self.choices)), self.choices)(self.data.x)

    @cached_property
    def _owner(self) -> Array:
        """Which coordinate each column belongs to, one-hot, shape ``(e, d)``."""
        d = len(self.choices)
        return np.eye(d)[
            np.append(np.arange(d), np.repeat(np.arange(d), Kinds.of(self.choices).widths))
        ]


def _summed(z: Array, weights: Array) -> Array:
    """``Σ_pq w_pq (z_pc − z_qc)²`` for each column c: symmetric weights, shape ``(e,)``."""
    return 2 * (weights.sum(1) @ (z * z) - np.einsum("pc,pc->c", z, weights @ z))


def _pulled(z: Array, slope: Array, alpha: Array) -> Array:
    """``Σ_q slope_pq (z_pc − z_qc)² α_q``, shape ``(n, e)``."""
    e = z.shape[1]
    squared = z * z
    right = np.concatenate([alpha[:, None], z * alpha[:, None], squared * alpha[:, None]], 1)
    total = slope @ right
    return squared * total[:, :1] - 2 * z * total[:, 1 : e + 1] + total[:, e + 1 :]
