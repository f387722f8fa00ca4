"""The declared search space of each optimizer, and how it is built from one point of it.

`OPTIMIZERS` is open: `register` adds an optimizer that `tune_training` and the command line know.
Parameters that act through 1 - momentum are searched as 1 - momentum on a log scale. Damping and
learning rate are correlated (in 70 random K-FAC runs on digits their logarithms have a correlation
of 0.64 among the best 20), so that the full spaces hold their ratio in place of the damping.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.trial import BaseTrial, Trial

from fisherbo.tuning.names import require_known

if TYPE_CHECKING:  # a study is read without torch, which is slow to import
    from torch import nn, optim

    from fisherbo.tuning.losses import Likelihood


@dataclass(frozen=True)
class Setting:
    """What an optimizer is built with besides the tuned parameters."""

    likelihood: Likelihood | None
    weight_decay: float
    seed: int


Build = Callable[["nn.Module", Mapping[str, Any], Setting], "optim.Optimizer"]
Arguments = Callable[[Mapping[str, Any], Setting], dict[str, Any]]


@dataclass(frozen=True)
class TunableOptimizer:
    """An optimizer with its search space.

    Attributes:
        name: the name that users type.
        space: distribution of each parameter.
        build: returns the optimizer of a model's weights at one point of the space.
        max_steps: steps of a trial unless the user gives another budget.
        needs_likelihood: whether `build` cannot do without `Setting.likelihood`.
        arguments: keyword arguments of the optimizer's own class at one point, to be pasted; None
            is the point itself.
        made_by: how that class is called, up to the keyword arguments, such as
            "torch.optim.Adam(model.parameters()".
        fixed: parameters that `build` is given besides the point.
        start: a point that is known to work, tried first.
    """

    name: str
    space: Mapping[str, BaseDistribution]
    build: Build
    max_steps: int
    needs_likelihood: bool = False
    arguments: Arguments | None = None
    made_by: str = ""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] | None = None

    def make(
        self, model: nn.Module, parameters: Mapping[str, Any], setting: Setting
    ) -> optim.Optimizer:
        """The optimizer of a model's weights at one point of the space."""
        return self.build(model, {**self.fixed, **parameters}, setting)

    def written(self, parameters: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
        """The point as keyword arguments of the optimizer's own class."""
        if self.arguments is None:
            return {**self.fixed, **parameters}
        return self.arguments({**self.fixed, **parameters}, setting)

    def middle(self) -> dict[str, Any]:
        """The centre of the space, on a log scale where the space has one."""
        return {name: _middle(distribution) for name, distribution in self.space.items()}

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """The trial's point of the space."""
        return {name: suggest_value(trial, name, kind) for name, kind in self.space.items()}

    def describe(self) -> dict[str, str]:
        """The space in Optuna's JSON, one text a parameter."""
        return {name: distribution_to_json(kind) for name, kind in self.space.items()}


def _kfac(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    from fisherbo.training import KFAC

    return KFAC(model, **_kfac_arguments(parameters, setting), seed=setting.seed)


def _kfac_arguments(parameters: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    assert setting.likelihood is not None  # `needs_likelihood` is checked before any trial
    damping = parameters.get("damping")
    if damping is None:
        damping = parameters["damping_per_lr"] * parameters["lr"]
    found: dict[str, Any] = {
        "likelihood": setting.likelihood,
        "lr": parameters["lr"],
        "damping": damping,
        "momentum": parameters["momentum"],
        "weight_decay": parameters.get("weight_decay", setting.weight_decay),
    }
    if "one_minus_factor_decay" in parameters:
        found["factor_decay"] = 1 - parameters["one_minus_factor_decay"]
    if "kl_clip" in parameters:
        found["kl_clip"] = parameters["kl_clip"]
    return found


def _ekfac(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    from fisherbo.training import KFAC

    return KFAC(model, **_ekfac_arguments(parameters, setting), seed=setting.seed)


def _ekfac_arguments(parameters: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    return {**_kfac_arguments(parameters, setting), "eigen_correction": True}


def _natural(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    from fisherbo.training import NaturalGradient

    return NaturalGradient(model, **_natural_arguments(parameters, setting))


def _natural_arguments(parameters: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    assert setting.likelihood is not None
    return {
        "likelihood": setting.likelihood,
        "lr": parameters["lr"],
        "damping": parameters["damping_per_lr"] * parameters["lr"],
        "kl_clip": parameters["kl_clip"],
        "weight_decay": parameters.get("weight_decay", setting.weight_decay),
    }


def _adam(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    from torch import optim

    return optim.Adam(model.parameters(), **_adam_arguments(parameters, setting))


def _adam_arguments(parameters: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    return {
        "lr": parameters["lr"],
        "betas": (1 - parameters["one_minus_beta1"], 0.999),
        "eps": parameters["eps"],
        "weight_decay": parameters.get("weight_decay", setting.weight_decay),
    }


def _sgd(model: nn.Module, parameters: Mapping[str, Any], setting: Setting) -> optim.Optimizer:
    from torch import optim

    return optim.SGD(model.parameters(), **_sgd_arguments(parameters, setting))


def _sgd_arguments(parameters: Mapping[str, Any], setting: Setting) -> dict[str, Any]:
    return {
        "lr": parameters["lr"],
        "momentum": 1 - parameters["one_minus_momentum"],
        "nesterov": True,
        "weight_decay": parameters.get("weight_decay", setting.weight_decay),
    }


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
    arguments=_kfac_arguments,
    made_by="fisherbo.KFAC(model",
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
    arguments=_adam_arguments,
    made_by="torch.optim.Adam(model.parameters()",
)
SGD_SPACE = TunableOptimizer(
    name="sgd",
    space={
        "lr": FloatDistribution(1e-5, 1.0, log=True),
        "one_minus_momentum": FloatDistribution(1e-3, 0.5, log=True),
    },
    build=_sgd,
    max_steps=6000,
    arguments=_sgd_arguments,
    made_by="torch.optim.SGD(model.parameters()",
)

_FULL = {
    "lr": FloatDistribution(1e-2, 2.0, log=True),
    "damping_per_lr": FloatDistribution(1e-3, 1e2, log=True),
    "momentum": FloatDistribution(0.0, 0.98),
    "one_minus_factor_decay": FloatDistribution(1e-2, 0.5, log=True),
    "kl_clip": FloatDistribution(1e-3, 1e1, log=True),
}
KFAC_FULL_SPACE = replace(KFAC_SPACE, name="kfac_full", space=_FULL)
EKFAC_SPACE = replace(KFAC_FULL_SPACE, name="ekfac", build=_ekfac, arguments=_ekfac_arguments)
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
    arguments=_natural_arguments,
    made_by="fisherbo.NaturalGradient(model",
)

LABELS = {
    "damping_per_lr": "damping / lr",
    "one_minus_beta1": "1 − beta1",
    "one_minus_factor_decay": "1 − factor_decay",
    "one_minus_momentum": "1 − momentum",
}
"""Of axes, by names of parameters that are searched in another form than they are written in."""

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
    require_known("optimizer", optimizer, OPTIMIZERS)
    return OPTIMIZERS[optimizer]


def recorded(config: Mapping[str, Any]) -> tuple[TunableOptimizer, Setting]:
    """The optimizer and the setting that a study was made with, by the config it is stored with.

    Raises:
        InvalidInputError: no optimizer has its name here.
    """
    optimizer = as_optimizer(str(config["optimizer"]))
    setting = Setting(*(config[name] for name in ("likelihood", "weight_decay", "seed")))
    return replace(optimizer, fixed=config.get("fixed", {})), setting


def of_table(optimizer: TunableOptimizer, rows: int) -> TunableOptimizer:
    """The optimizer as it is tuned on a table: the weight decay too, around 9/rows.

    K-FAC comes to the minimum of the penalised loss in 100 steps with nearly all learning rates and
    dampings, so that the penalty decides what a network of a small table is worth. Its momentum is
    .9 then, and a step may be longer than in minibatches of large networks (`kl_clip`).

    Args:
        optimizer: what it is tuned as elsewhere.
        rows: training rows.
    """
    decay = FloatDistribution(min(0.3 / rows, 1e-2), min(300 / rows, 1.0), log=True)
    if optimizer.name != "kfac":
        steps = min(optimizer.max_steps, 1000)
        return replace(optimizer, space={**optimizer.space, "weight_decay": decay}, max_steps=steps)
    start = {"lr": 0.3, "damping": 5e-3, "weight_decay": math.sqrt(decay.low * decay.high)}
    return replace(
        optimizer,
        space={
            "lr": FloatDistribution(5e-2, 1.0, log=True),
            "damping": FloatDistribution(5e-4, 5e-2, log=True),
            "weight_decay": decay,
        },
        max_steps=100,
        fixed={"momentum": 0.9, "kl_clip": 0.03},
        start=start,
    )


def _middle(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    if isinstance(distribution, IntDistribution):
        return (distribution.low + distribution.high) // 2
    assert isinstance(distribution, FloatDistribution)
    if distribution.log:
        return math.sqrt(distribution.low * distribution.high)
    return (distribution.low + distribution.high) / 2


def suggest_value(trial: BaseTrial, name: str, kind: BaseDistribution) -> Any:
    """The trial's value of a parameter."""
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(name, kind.choices)
    if isinstance(kind, IntDistribution):
        return trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
    assert isinstance(kind, FloatDistribution)
    return trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
