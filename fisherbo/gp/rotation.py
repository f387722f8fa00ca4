"""Rotation of the kernel's coordinates by the Fisher information of observations about them.

One lengthscale for each parameter suits functions whose valleys run parallel to the axes. If they
run in other directions, all fitted lengthscales are short. A rotated kernel has its lengthscales
along orthogonal axes R in the space of the continuous parameters, found from the model itself.

Symbols
    z, ℓ     the coordinates R x of the present model, and its lengthscales
    M(z)     E[∇f ∇fᵀ | D] = ∇μ∇μᵀ + Cov(∇f | D): τ² times the expected Fisher information of an
             observation about z (Tosi et al. 2014)
    C        its mean over the better half of the observations, in units of the lengthscales:
             C_ij = ℓ_i ℓ_j mean M_ij
    V        the eigenvectors of C, as columns

One round. In units of the lengthscales the prior covariance of ∇f is a multiple of the identity, so
the eigenvectors of C are determined by the data; the leading ones span the active subspace of
Constantine et al. (2014). The kernel is fitted in the coordinates Vᵀ(z/ℓ), which gives r² = δᵀWδ.
The eigenvectors of W are the new R and its eigenvalues the new 1/ℓ². A fit in these coordinates
ends the round. In an ill-conditioned valley, each round improves the axes for the next.

When a rotation is kept. A rotation of k coordinates has k (k − 1)/2 fitted angles. It is kept if
the log posterior density of the hyperparameters, which contains the marginal likelihood, exceeds
that of the best unrotated model by one nat for each coordinate plus half a nat for each angle, and
by at least 8 nats: by 8, 10 and 32.5 in 2-D, 5-D and 10-D. These thresholds come from searches of
BBOB functions after 50 and 100 trials. Three rounds gain up to 2 nats in 5-D and 12 in 10-D on the
sphere, where there is nothing to gain; up to 26 in 10-D on functions 8 and 9; and 20 to 110 on the
rotated functions 10 and 11 (except for 4 on function 11 in 10-D after 50 trials). With thresholds
of 4, 5 and 20 nats, searches of other functions end worse more often than better.

No random numbers are used: if no rotation is kept, the search is the same as without this module.

References: Tosi, Hauberg, Vellido & Lawrence, UAI 2014. Constantine, Dow & Wang, SIAM J. Sci.
Comput. 36(4), 2014.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fisherbo.geometry.lapack import eigh, householder, svd
from fisherbo.gp.fit import mode
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.kernel import CURVATURE, turned
from fisherbo.gp.posterior import condition
from fisherbo.gp.protocol import Surrogate
from fisherbo.gp.replicates import merged
from fisherbo.kinds import Kinds
from fisherbo.space import Array, Integers, Space

_NATS, _LEAST_NATS = 0.5, 8.0  # that a rotation must gain, for each angle and at least
_ROUNDS, _PROMISING = 3, 0.25  # most rounds of a trial; share of the gain that the next one needs
_MOST_POINTS = 48
_MOST_ROTATED = 20
_MOST_NUMBERS = 340  # of a fit that is kept with a trial, in at most 2,000 characters


def rotatable(space: Space) -> Integers:
    """Indices of the coordinates that may be rotated: continuous ones that always exist.

    Weights of a mixture are not: their axes are those of the sphere. None of them if there are more
    than 20: a few hundred observations do not determine that many angles, and they would not fit
    into a trial's attribute.
    """
    kept = {condition.child for condition in space.conditions}
    kept.update(int(j) for index in space.simplices for j in index)
    index = [j for j in (~space.discrete).nonzero()[0].tolist() if j not in kept]
    numbers = space.dimension + 2 + len(index) * (len(index) - 1) // 2
    few = 2 <= len(index) <= _MOST_ROTATED and numbers <= _MOST_NUMBERS
    return np.array(index if few else [], dtype=np.int64)


def rotated(rotation: Array | None) -> Integers:
    """Indices of the coordinates that ``R`` changes."""
    if rotation is None:
        return np.empty(0, dtype=np.int64)
    return (rotation != np.eye(len(rotation))).any(1).nonzero()[0]


def least_gain(k: int) -> float:
    """Nats that a rotation of ``k`` coordinates must gain to be kept."""
    return max(k + _NATS * k * (k - 1) / 2, _LEAST_NATS)


@dataclass(frozen=True)
class Sample:
    """Observations of a model, prior mean 0, and which coordinates may be rotated.

    Attributes:
        x: Coordinates, shape ``(n, d)``.
        y: Values, shape ``(n,)``.
        choices: Number of choices of a categorical coordinate, 0 of any other, shape ``(d,)``.
        known: Noise variance of each observation beside τ², shape ``(n,)``; 0 if None.
        index: Coordinates that may be rotated, shape ``(k,)``.
    """

    x: Array
    y: Array
    choices: Integers | Kinds
    known: Array | None
    index: Integers


def fit_turned(sample: Sample, hyper: Hyper, loss: float, tolerance: float) -> Hyper:
    """An unrotated model, or that of some rounds from it where they gain enough.

    Args:
        sample: The observations.
        hyper: The unrotated model's.
        loss: Its loss as `mode` has it.
        tolerance: Of each fit, in nats.
    """
    best, least = (hyper, loss), least_gain(len(sample.index))
    for _ in range(_ROUNDS):
        found = turn(sample, best[0], tolerance)
        if found[1] >= best[1]:
            break
        best = found
        if loss - best[1] < _PROMISING * least:
            break
    return best[0] if loss - best[1] >= least else hyper


def fit_again(
    sample: Sample, last: Hyper, tolerance: float, *, further: bool, compare: bool
) -> Hyper:
    """A rotated model's next fit: with the last axes, or those one round further on.

    Args:
        sample: The observations.
        last: Hyperparameters of the last fit.
        tolerance: Of each fit, in nats.
        further: Whether to try another round.
        compare: Whether to go back to an unrotated model where the rotation gains too little.
    """
    x, y, choices, known = sample.x, sample.y, sample.choices, sample.known
    best = turn(sample, last, tolerance) if further or compare else (last, math.inf)
    if not best[1] < _loss(sample, last):
        best = mode(x, y, choices, [last], known=known, rotation=last.rotation, tolerance=tolerance)
    if not compare:
        return best[0]
    plain = mode(x, y, choices, known=known, tolerance=tolerance)
    return best[0] if plain[1] - best[1] >= least_gain(len(sample.index)) else plain[0]


def _loss(sample: Sample, hyper: Hyper) -> float:
    """The negative logarithm of the posterior density, as `mode` has it."""
    x, y, choices, known = sample.x, sample.y, sample.choices, sample.known
    return mode(x, y, choices, [hyper], known=known, rotation=hyper.rotation, max_steps=0)[1]


def turn(sample: Sample, hyper: Hyper, tolerance: float) -> tuple[Hyper, float]:
    """One round from a model: the hyperparameters in new axes, and their loss as `mode` has it.

    Args:
        sample: The observations.
        hyper: The present model's, rotated or not.
        tolerance: Of each fit, in nats.
    """
    x, y, choices, known, index = sample.x, sample.y, sample.choices, sample.known, sample.index
    information = expected_information(sample, hyper)
    length = hyper.lengthscale[index]
    _, axes = eigh(length[:, None] * information * length)
    unit = float(np.exp(np.log(length).mean()))
    basis = np.eye(len(choices))
    basis[np.ix_(index, index)] = unit * axes.T / length
    basis = basis if hyper.rotation is None else basis @ hyper.rotation
    equal = hyper.lengthscale.copy()
    equal[index] = unit
    start = replace(hyper, lengthscale=equal, rotation=None)
    fitted, _ = mode(x @ basis.T, y, choices, [start], known=known, tolerance=tolerance)
    found = orthogonal(fitted, basis, index)
    return mode(x, y, choices, [found], known=known, rotation=found.rotation, tolerance=tolerance)


def expected_information(sample: Sample, hyper: Hyper) -> Array:
    """Mean of ``M(z)`` over the better half of the observations, shape ``(k, k)``."""
    data = merged(turned(sample.x, hyper.rotation), sample.y, sample.known)
    nugget = hyper.noise / data.count + data.known
    plain = replace(hyper, rotation=None)
    posterior = condition(data.x, data.y, sample.choices, plain, nugget=nugget)
    better = np.argsort(-data.y, kind="stable")[: (len(data.y) + 1) // 2]
    spread = np.linspace(0, len(better) - 1, min(len(better), _MOST_POINTS)).round()
    points = data.x[better[spread.astype(np.int64)]]
    gradient = posterior.predict_with_gradient(points).mean_gradient
    mean = gradient.T @ gradient / len(points) + posterior.gradient_covariance(points).mean(0)
    return mean[np.ix_(sample.index, sample.index)]


def orthogonal(hyper: Hyper, basis: Array, index: Integers) -> Hyper:
    """The same kernel by a rotation: ``hyper`` has lengthscales of the coordinates ``basis x``."""
    within = basis[np.ix_(index, index)] / hyper.lengthscale[index, None]
    _, inverse, axes = svd(within)
    lengthscale, rotation = hyper.lengthscale.copy(), np.eye(len(basis))
    lengthscale[index] = 1 / inverse
    rotation[np.ix_(index, index)] = axes
    return Hyper(lengthscale, hyper.signal, hyper.noise, rotation)


def kernel_axes(surrogate: Surrogate) -> tuple[Array, Array | None]:
    """Lengthscales ``(d,)`` and ``R`` of a model, from its ``Λ``; R is None if Λ is diagonal."""
    axes = surrogate.gradient_axes
    if axes is None:
        return np.sqrt(CURVATURE * surrogate.variance / surrogate.gradient_variance), None
    steepness = np.linalg.norm(axes, axis=0)
    return np.sqrt(CURVATURE * surrogate.variance) / steepness, (axes / steepness).T


def reflectors(rotation: Array, index: Integers) -> Array:
    """Householder vectors of ``R``, which need k (k − 1)/2 numbers; signs of its axes are lost."""
    packed = householder(rotation[np.ix_(index, index)].T)
    return packed[np.tril_indices(len(index), -1)]


def from_reflectors(numbers: Array, index: Integers, d: int) -> Array | None:
    """``R`` of shape ``(d, d)`` from its Householder vectors; None where nothing is rotated."""
    if not len(index):
        return None
    k = len(index)
    vectors = np.eye(k)
    vectors[np.tril_indices(k, -1)] = numbers
    within = np.eye(k)
    for vector in vectors.T[::-1]:
        if np.count_nonzero(vector) > 1:  # else the identity
            within -= np.outer(vector, (2 / (vector @ vector)) * (vector @ within))
    rotation = np.eye(d)
    rotation[np.ix_(index, index)] = within.T
    return rotation


def packed(hyper: Hyper) -> tuple[Array, Integers]:
    """``θ`` and Householder vectors of ``R`` in 32 bits, as they are stored; what R rotates."""
    index = rotated(hyper.rotation)
    parts = [hyper.to_vector()]
    parts += [] if hyper.rotation is None else [reflectors(hyper.rotation, index)]
    return np.concatenate(parts).astype("<f4"), index


def unpacked(numbers: Array, index: Integers) -> Hyper:
    """Hyperparameters from what `packed` made of them."""
    size = len(numbers) - len(index) * (len(index) - 1) // 2
    theta, vectors = numbers[:size], numbers[size:].astype(np.float64)
    return Hyper.from_vector(theta, from_reflectors(vectors, index, size - 2))


def rounded(hyper: Hyper) -> Hyper:
    """Hyperparameters in the precision that is stored."""
    return unpacked(*packed(hyper))
