"""Losses by name, each with the likelihood whose negative logarithm it is.

K-FAC's curvature is the Fisher information of that likelihood, so the two must agree.
All three are means over rows, sums over outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.names import suggestion

Likelihood = Literal["categorical", "bernoulli", "normal"]
LossFunction = Callable[[Tensor, Tensor], Tensor]
LIKELIHOODS: tuple[Likelihood, ...] = ("categorical", "bernoulli", "normal")


@dataclass(frozen=True)
class Loss:
    """A loss function (output, target) -> scalar with its name and likelihood."""

    name: str
    function: LossFunction
    likelihood: Likelihood | None


def bernoulli(logits: Tensor, target: Tensor) -> Tensor:
    """Bernoulli cross-entropy, summed over outputs, mean over rows; target in [0, 1]."""
    total = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return total / len(target)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Categorical cross-entropy, mean over rows; target holds class numbers."""
    return functional.cross_entropy(logits, target)


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """Half the squared error, summed over outputs, mean over rows: -log N(y; f, 1) + const."""
    return 0.5 * (output - target.reshape(output.shape)).square().sum() / len(target)


LOSSES = {
    "bernoulli": Loss("bernoulli", bernoulli, "bernoulli"),
    "cross_entropy": Loss("cross_entropy", cross_entropy, "categorical"),
    "squared_error": Loss("squared_error", squared_error, "normal"),
}


def as_loss(loss: str | LossFunction, likelihood: str | None) -> Loss:
    """The named loss, or the caller's own with the caller's likelihood.

    Raises:
        InvalidInputError: an unknown name of a loss or of a likelihood.
    """
    if likelihood is not None and likelihood not in LIKELIHOODS:
        raise InvalidInputError(
            f"unknown likelihood {likelihood!r}{suggestion(likelihood, LIKELIHOODS)}; "
            f"known are {', '.join(LIKELIHOODS)}"
        )
    if callable(loss):
        name = getattr(loss, "__name__", type(loss).__name__)
        return Loss(name, loss, likelihood)
    if loss not in LOSSES:
        raise InvalidInputError(
            f"unknown loss {loss!r}{suggestion(loss, LOSSES)}; known are {', '.join(LOSSES)}, "
            "or give a function (output, target) -> scalar"
        )
    known = LOSSES[loss]
    return Loss(known.name, known.function, known.likelihood if likelihood is None else likelihood)
