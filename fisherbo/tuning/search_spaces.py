"""The declared search space of each optimizer, and how it is built from one point of it.

`OPTIMIZERS` is open: `register` adds an optimizer that `tune_training` and the command line know.
Parameters that act through 1 - momentum are searched as 1 - momentum on a log scale. Damping and
learning rate are correlated (in 70 random K-FAC runs on digits their logarithms have a correlation
of 0.64 among the best 20), so that the full spaces hold their ratio in place of the damping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import Trial
from torch import nn, optim

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.losses import Likelihood
from fisherbo.tuning.names import suggestion


@dataclass(frozen=True)
class Setting:
    """What an optimizer is built with besides the tuned parameters."""

    likelihood: Likelihood | None
    weight_decay: float
    seed: int


Build = Callable[[nn.Module, Mapping[str, Any], Setting], optim.Optimizer]


@dataclass(frozen=True)
class TunableOptimizer:
    """An optimizer with its search space.

    Attributes:
        name: the name that users type.
        space: distribution of each parameter.
        build: returns the optimizer of a model's weights at one point of the space.
        max_steps: steps of a trial unless the user gives another budget.
        needs_likelihood: whether `build` cannot do without `Setting.likelihood`.
    """

    name: str
    space: Mapping[str, BaseDistribution]
    build: Build
    max_steps: int
    needs_likelihood: bool = False

    def middle(self) -> dict[str, Any]:
        """The centre of the space, on a log scale where the space has one."""
        return {name: _middle(distribution) for name, distribution in self.space.items()}

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """The trial's point of the space."""
        return {name: _suggest(trial, name, kind) for name, kind in self.space.items()}

    def describe(self) -> dict[str, str]:
        """The space in Optuna's JSON, one text a parameter."""
        return {name: distribution_to_json(kind) for name, kind in self.space.items()}


def _kfac(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    return _built_kfac(model, parameters, setting, eigen_correction=False)


def _ekfac(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    return _built_kfac(model, parameters, setting, eigen_correction=True)


def _built_kfac(
    model: nn.Module, parameters: Mapping[str, Any], setting: Setting, *, eigen_correction: bool
) -> optim.Optimizer:
    from fisherbo.training import KFAC

    assert setting.likelihood is not None  # `needs_likelihood` is checked before any trial
    damping = parameters.get("damping")
    if damping is None:
        damping = parameters["damping_per_lr"] * parameters["lr"]
    return KFAC(
        model,
        likelihood=setting.likelihood,
        lr=parameters["lr"],
        damping=damping,
        momentum=parameters["momentum"],
        weight_decay=setting.weight_decay,
        factor_decay=1 - parameters.get("one_minus_factor_decay", 0.05),
        kl_clip=parameters.get("kl_clip", "auto"),
        eigen_correction=eigen_correction,
        seed=setting.seed,
    )


def _natural(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    from fisherbo.training import NaturalGradient

    assert setting.likelihood is not None
    return NaturalGradient(
        model,
        likelihood=setting.likelihood,
        lr=parameters["lr"],
        damping=parameters["damping_per_lr"] * parameters["lr"],
        kl_clip=parameters["kl_clip"],
        weight_decay=setting.weight_decay,
    )


def _adam(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    return optim.Adam(
        model.parameters(),
        lr=parameters["lr"],
        betas=(1 - parameters["one_minus_beta1"], 0.999),
        eps=parameters["eps"],
        weight_decay=setting.weight_decay,
    )


def _sgd(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    return optim.SGD(
        model.parameters(),
        lr=parameters["lr"],
        momentum=1 - parameters["one_minus_momentum"],
        nesterov=True,
        weight_decay=setting.weight_decay,
    )


KFAC_SPACE = TunableOptimizer(
    name="kfac",
    space={
        "lr": FloatDistribution(1e-2, 2.0, log=True),
        "damping": FloatDistribution(1e-4, 10.0, log=True),
        "momentum": FloatDistribution(0.0, 0.98),
    },
    build=_kfac,
    max_steps=300,
    needs_likelihood=True,
)
ADAM_SPACE = TunableOptimizer(
    name="adam",
    space={
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "one_minus_beta1": FloatDistribution(1e-2, 0.5, log=True),
        "eps": FloatDistribution(1e-9, 1e-3, log=True),
    },
    build=_adam,
    max_steps=6000,
)
SGD_SPACE = TunableOptimizer(
    name="sgd",
    space={
        "lr": FloatDistribution(1e-5, 1.0, log=True),
        "one_minus_momentum": FloatDistribution(1e-3, 0.5, log=True),
    },
    build=_sgd,
    max_steps=6000,
)

_FULL = {
    "lr": FloatDistribution(1e-2, 2.0, log=True),
    "damping_per_lr": FloatDistribution(1e-3, 1e2, log=True),
    "momentum": FloatDistribution(0.0, 0.98),
    "one_minus_factor_decay": FloatDistribution(1e-2, 0.5, log=True),
    "kl_clip": FloatDistribution(1e-3, 1e1, log=True),
}
EKFAC_SPACE = TunableOptimizer(
    name="ekfac", space=_FULL, build=_ekfac, max_steps=300, needs_likelihood=True
)
KFAC_FULL_SPACE = TunableOptimizer(
    name="kfac_full", space=_FULL, build=_kfac, max_steps=300, needs_likelihood=True
)
NATURAL_SPACE = TunableOptimizer(
    name="natural",
    space={
        "lr": FloatDistribution(5e-2, 2.0, log=True),
        "damping_per_lr": FloatDistribution(1e-4, 1e2, log=True),
        "kl_clip": FloatDistribution(1e-3, 1e1, log=True),
    },
    build=_natural,
    max_steps=100,
    needs_likelihood=True,
)

OPTIMIZERS: dict[str, TunableOptimizer] = {}


def register(optimizer: TunableOptimizer) -> None:
    """Make an optimizer known by its name, in place of the one of that name if there is one."""
    OPTIMIZERS[optimizer.name] = optimizer


for _optimizer in (KFAC_SPACE, ADAM_SPACE, SGD_SPACE, EKFAC_SPACE, KFAC_FULL_SPACE, NATURAL_SPACE):
    register(_optimizer)


def as_optimizer(optimizer: str | TunableOptimizer) -> TunableOptimizer:
    """The optimizer of that name.

    Raises:
        InvalidInputError: no optimizer has the name.
    """
    if isinstance(optimizer, TunableOptimizer):
        return optimizer
    if optimizer not in OPTIMIZERS:
        raise InvalidInputError(
            f"unknown optimizer {optimizer!r}{suggestion(optimizer, OPTIMIZERS)}; "
            f"known are {', '.join(OPTIMIZERS)}"
        )
    return OPTIMIZERS[optimizer]


def _middle(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    if isinstance(distribution, IntDistribution):
        return (distribution.low + distribution.high) // 2
    assert isinstance(distribution, FloatDistribution)
    if distribution.log:
        return math.sqrt(distribution.low * distribution.high)
    return (distribution.low + distribution.high) / 2


def _suggest(trial: Trial, name: str, kind: BaseDistribution) -> Any:
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(name, kind.choices)
    if isinstance(kind, IntDistribution):
        return trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
    assert isinstance(kind, FloatDistribution)
    return trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
