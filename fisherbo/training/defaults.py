"""What scales the steps of K-FAC, and the settings that follow from it.

Chosen on the sixteen networks of ``experiments/development.py`` (minibatches and full batches,
depth, width, convolutions, three normalisations, transformers, regression);
``experiments/minibatch.py`` reports four others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fisherbo.errors import InvalidInputError
from fisherbo.training.likelihoods import Likelihood, LikelihoodFunction

SecondMoment = Literal["gradient", "fisher"]


@dataclass(frozen=True)
class Defaults:
    """Settings that are used where none is given.

    Attributes:
        lr: Learning rate.
        fallback_lr: Of AdamW.
        kl_clip: For each scalar that the likelihood draws: 1 for a categorical row, C otherwise.
        damping: λ, which only the Fisher has.
        factor_interval: The eigenbasis moves slowly; inverses of the Fisher must follow it.
        steps_by_interval: The interval is at most the steps taken divided by this: curvature
            changes fast at first.
        decoupled_weight_decay: As AdamW's, or as part of the loss.
    """

    lr: float
    fallback_lr: float
    kl_clip: float
    damping: float
    factor_interval: int
    steps_by_interval: int
    decoupled_weight_decay: bool


DEFAULTS: dict[SecondMoment, Defaults] = {
    "gradient": Defaults(0.02, 0.02, 0.02, 0.0, 50, 3, True),
    "fisher": Defaults(0.1, 1e-3, 1e-3, 1e-2, 5, 10, False),
}


def unset(own: Defaults, given: Mapping[str, Any]) -> set[str]:
    """Names of the settings that are no numbers, or left to a default."""
    left = {key for key in asdict(own) if given.get(key) is None}
    return left | {"decoupled_weight_decay"}


def filled(own: Defaults, given: Mapping[str, Any]) -> dict[str, Any]:
    """The given settings, with the defaults in place of ``None`` where there are any."""
    defaults = {key: value for key, value in asdict(own).items() if key != "kl_clip"}
    return {key: defaults.get(key) if value is None else value for key, value in given.items()}


def second_moment_of(choice: str, damped: Collection[str]) -> SecondMoment:
    """The choice, which for ``"auto"`` is the Fisher where an option that only it has is given.

    Args:
        choice: ``"auto"``, ``"gradient"`` or ``"fisher"``.
        damped: Names of the given options that only a step with a damped Fisher has.

    Raises:
        InvalidInputError: If the choice is another, or ``"gradient"`` with such options.
    """
    if choice == "auto":
        return "fisher" if damped else "gradient"
    if choice == "fisher":
        return "fisher"
    if choice != "gradient":
        raise InvalidInputError(
            f"second_moment must be one of auto, gradient, fisher, got {choice!r}"
        )
    if damped:
        raise InvalidInputError(
            f"{', '.join(damped)} must be left out with second_moment='gradient', whose steps are "
            "not damped; leave it out, or use second_moment='fisher'"
        )
    return "gradient"


def scalars(likelihood: Likelihood | LikelihoodFunction, width: int) -> int:
    """Scalars that the likelihood draws in a row of ``width`` outputs."""
    if likelihood in ("bernoulli", "normal"):
        return width
    return max(1, width // 2) if likelihood == "heteroscedastic_normal" else 1
