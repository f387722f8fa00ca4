"""A model's outputs as rows of distributions, and which of their entries the loss uses.

Symbols: z outputs, g the gradient of the user's loss with respect to them; N rows, T positions of a
row, C classes or features. One distribution p(y | z) is over the C entries of a row and position.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fisherbo.errors import InvalidInputError
from fisherbo.training.likelihoods import Likelihood, LikelihoodFunction, gradient_at_mode

_ENTRYWISE = ("bernoulli", "normal", "heteroscedastic_normal")  # entries that are independent
_ROUNDING = 0.02  # of a sum over classes, relative to the sum of moduli; bfloat16 needs .002


def events(outputs: Tensor, likelihood: Likelihood | LikelihoodFunction, dim: int = -1) -> Tensor:
    """Outputs as ``(N, T, C)``, with C from the dimension ``dim``.

    One-dimensional outputs are N rows of one feature, for ``"categorical"`` one row of C logits.
    """
    if outputs.ndim == 1:
        return outputs.reshape((1, 1, -1) if likelihood == "categorical" else (-1, 1, 1))
    moved = outputs.movedim(dim, -1)
    return moved.reshape(moved.shape[0], math.prod(moved.shape[1:-1]), moved.shape[-1])


def as_outputs(values: Tensor, outputs: Tensor, dim: int = -1) -> Tensor:
    """The inverse of `events`: values of shape ``(N, T, C)`` in the shape of ``outputs``."""
    if outputs.ndim == 1:
        return values.reshape(outputs.shape)
    return values.reshape(outputs.movedim(dim, -1).shape).movedim(-1, dim)


class ClassDimension:
    """The dimension of the outputs that holds the C entries of one distribution.

    For categorical outputs with positions it is found from the first gradient of the loss: a loss
    of softmax probabilities does not change when a constant is added to all logits of one
    distribution, so that its gradient sums to 0 over the classes. `torch.nn.functional`'s
    cross-entropy has them in dimension 1.

    Args:
        likelihood: p(y | z).
        given: The dimension; ``None``: found, or the last one.

    Raises:
        InvalidInputError: If it is not a whole number.
    """

    def __init__(
        self, likelihood: Likelihood | LikelihoodFunction, given: int | None = None
    ) -> None:
        if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
            raise InvalidInputError(
                f"class_dim must be a whole number or None, got {given!r}; -1 is the last dimension"
            )
        self._likelihood = likelihood
        self._given = given
        self._found: int | None = None

    def of(self, outputs: Tensor, gradient: Tensor | None = None) -> int:
        """The dimension for outputs and, if it is known, the loss's gradient of the same shape.

        Raises:
            InvalidInputError: If the dimension given is not there or holds the rows, or none fits.
        """
        if self._given is not None:
            return self._checked(self._given, outputs)
        if self._likelihood != "categorical" or outputs.ndim <= 2:
            return -1
        if self._found is None and gradient is not None:
            self._found = _shift_invariant_dimension(gradient)
        return -1 if self._found is None else self._found

    def _checked(self, given: int, outputs: Tensor) -> int:
        dims = outputs.ndim
        if not -dims <= given < dims or (dims > 1 and given % dims == 0):
            raise InvalidInputError(
                f"class_dim must be a dimension of the outputs after the first, which holds the "
                f"rows, got {given} for outputs of shape {tuple(outputs.shape)}"
            )
        return given


def _shift_invariant_dimension(gradient: Tensor) -> int | None:
    """−1 or 1, over which the gradient sums to 0; ``None`` if it tells nothing (0 or not finite).

    Raises:
        InvalidInputError: If it sums to 0 over neither.
    """
    g = gradient.detach().to(torch.promote_types(gradient.dtype, torch.float32))
    size = g.abs().sum()
    if not size.isfinite() or size == 0:
        return None
    rests = {dim: float(g.sum(dim).abs().sum() / size) for dim in (-1, 1)}
    best = min(rests, key=lambda dim: rests[dim])
    if rests[best] > _ROUNDING:
        raise InvalidInputError(
            "likelihood='categorical' needs a loss of softmax probabilities over the last "
            "dimension of the outputs or over dimension 1, got a gradient that sums to 0 over "
            f"neither, for outputs of shape {tuple(gradient.shape)}; name the dimension of the "
            "classes with class_dim, or choose the likelihood that the loss belongs to"
        )
    return best


def used_entries(
    outputs: Tensor, gradient: Tensor, likelihood: Likelihood | LikelihoodFunction
) -> Tensor:
    """Which entries of the outputs the loss uses: those whose gradient is not exactly 0.

    A row that ``ignore_index``, a mask or a weight of 0 leaves out has the gradient 0. So has one
    whose label has a probability that rounds to 1; that one is used. Where entries are not
    independent, a distribution is used as a whole.

    Args:
        outputs: z, shape ``(N, T, C)``.
        gradient: g, likewise.
        likelihood: p(y | z).

    Returns:
        Booleans of shape ``(N, T, C)``, or ``(N, T, 1)`` if a distribution is used as a whole.
    """
    whole = likelihood not in _ENTRYWISE
    used = gradient != 0
    used = used.any(-1, keepdim=True) if whole else used
    if used.all():
        return used
    certain = gradient_at_mode(outputs, likelihood)
    largest = gradient.abs().max()
    if certain is None or largest == 0:
        return used
    rounded = (certain * largest).to(gradient.dtype) == 0  # the loss is scaled by so much at least
    return used | (rounded.all(-1, keepdim=True) if whole else rounded)
