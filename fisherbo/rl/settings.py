"""The settings of a training run, with the defaults of each algorithm, and their rules."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from inspect import getdoc
from typing import Any, Literal, get_args

from fisherbo.errors import InvalidInputError
from fisherbo.rl.trpo import Direction

Algorithm = Literal["trpo", "ppo", "acktr", "vanilla"]


@dataclass(frozen=True)
class Settings:
    """How a policy is trained.

    Attributes:
        n_envs: Environments stepped together.
        rollout: Steps of each environment between two updates.
        gamma: Discount.
        gae_lambda: Trace of the advantages.
        hidden: Widths of the hidden layers of actor and critic.
        log_std: Initial log σ of continuous actions.
        normalise_observations: Whether observations are standardised by running moments; ``None``:
            only if actions are continuous.
        normalise_rewards: Whether rewards are divided by the running deviation of the discounted
            return; ``None``: only if actions are continuous.
        max_kl: Radius of the trust region in nats (TRPO, ACKTR).
        damping: Added to the Fisher (TRPO, ACKTR).
        direction: ``"cg"``, ``"kfac"`` or ``"kfac-preconditioned-cg"`` (TRPO, ACKTR).
        cg_iterations: Largest number of conjugate-gradient products (TRPO, ACKTR; none where
            direction is kfac).
        backtrack: Ratio of a step of the line search to the one before.
        max_backtracks: Largest number of further steps that it tries.
        factor_decay: Largest weight of the old Kronecker factors.
        value_optimizer: The critic's optimizer, ``"adam"`` or ``"kfac"`` (all but PPO).
        value_lr: Its learning rate.
        value_epochs: Passes of the critic over a rollout.
        value_batch: Rows of its minibatches.
        lr: Adam's learning rate (PPO, vanilla).
        anneal: Whether lr, and PPO's clip, fall linearly to 0 over the run.
        epochs: Passes over a rollout (PPO).
        batch_size: Rows of a minibatch (PPO).
        clip: ε (PPO).
        target_kl: Passes end where KL exceeds 1.5 times this (PPO); ``None``: never.
        entropy: Weight of the entropy (PPO).
        max_grad_norm: Largest norm of a gradient (PPO, vanilla).
    """

    n_envs: int = 4
    rollout: int = 256
    gamma: float = 0.99
    gae_lambda: float = 0.95
    hidden: tuple[int, ...] = (64, 64)
    log_std: float = 0.0
    normalise_observations: bool | None = None
    normalise_rewards: bool | None = None
    max_kl: float = 0.01
    damping: float = 0.01
    direction: Direction = "cg"
    cg_iterations: int = 15
    backtrack: float = 0.8
    max_backtracks: int = 10
    factor_decay: float = 0.95
    value_optimizer: Literal["adam", "kfac"] = "adam"
    value_lr: float = 1e-3
    value_epochs: int = 10
    value_batch: int = 128
    lr: float = 3e-4
    anneal: bool = False
    epochs: int = 10
    batch_size: int = 64
    clip: float = 0.2
    target_kl: float | None = None
    entropy: float = 0.0
    max_grad_norm: float = 0.5


DEFAULTS: dict[Algorithm, Settings] = {
    "trpo": Settings(),
    "ppo": Settings(n_envs=8, rollout=128, lr=1e-3, anneal=True, batch_size=128),
    "acktr": Settings(direction="kfac", value_optimizer="kfac", value_lr=0.1, value_batch=512),
    "vanilla": Settings(rollout=128, lr=1e-2),
}

_DAMPED: tuple[Algorithm, ...] = ("trpo", "acktr")
_BY_ADAM: tuple[Algorithm, ...] = ("ppo", "vanilla")
_OWN_CRITIC: tuple[Algorithm, ...] = ("trpo", "acktr", "vanilla")
_USED_BY: dict[str, tuple[Algorithm, ...]] = {
    **dict.fromkeys(("max_kl", "damping", "direction", "cg_iterations"), _DAMPED),
    **dict.fromkeys(("backtrack", "max_backtracks", "factor_decay"), _DAMPED),
    **dict.fromkeys(("value_optimizer", "value_lr", "value_epochs", "value_batch"), _OWN_CRITIC),
    **dict.fromkeys(("lr", "anneal", "max_grad_norm"), _BY_ADAM),
    **dict.fromkeys(("epochs", "batch_size", "clip", "target_kl", "entropy"), ("ppo",)),
}

_Rule = tuple[Callable[[Any], bool], str]
_COUNT: _Rule = (lambda v: isinstance(v, int) and v >= 1, "a whole number >= 1")
_POSITIVE: _Rule = (lambda v: 0 < v < math.inf, "> 0")
_UNIT: _Rule = (lambda v: 0 <= v <= 1, "in [0, 1]")
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("n_envs", "rollout", "cg_iterations", "value_epochs", "epochs"), _COUNT),
    **dict.fromkeys(("max_kl", "damping", "value_lr", "lr", "max_grad_norm"), _POSITIVE),
    **dict.fromkeys(("gamma", "gae_lambda"), _UNIT),
    **dict.fromkeys(
        ("value_batch", "batch_size"),
        (lambda v: isinstance(v, int) and v >= 2, "a whole number >= 2"),
    ),
    "hidden": (lambda v: len(v) > 0 and all(w >= 1 for w in v), "widths >= 1, at least one"),
    "log_std": (math.isfinite, "finite"),
    "direction": (lambda v: v in get_args(Direction), f"one of {', '.join(get_args(Direction))}"),
    "backtrack": (lambda v: 0 < v < 1, "in (0, 1)"),
    "max_backtracks": (lambda v: isinstance(v, int) and v >= 0, "a whole number >= 0"),
    "factor_decay": (lambda v: 0 <= v < 1, "in [0, 1)"),
    "value_optimizer": (lambda v: v in ("adam", "kfac"), "one of adam, kfac"),
    "clip": (lambda v: 0 < v < 1, "in (0, 1)"),
    "target_kl": (lambda v: v is None or 0 < v < math.inf, "> 0 or None"),
    "entropy": (lambda v: 0 <= v < math.inf, ">= 0"),
}


def settings_of(algorithm: str, changes: Mapping[str, Any]) -> Settings:
    """The algorithm's defaults with these changes.

    Raises:
        InvalidInputError: If the algorithm or a setting is not known, or a setting breaks its rule.
    """
    if algorithm not in DEFAULTS:
        raise InvalidInputError(
            f"algorithm must be one of {', '.join(DEFAULTS)}, got {algorithm!r}"
            f"{_near(algorithm, list(DEFAULTS))}"
        )
    known = [f.name for f in fields(Settings)]
    for name, value in changes.items():
        if name not in known:
            raise InvalidInputError(
                f"unknown setting {name!r}{_near(name, known)}; known are {', '.join(known)}"
            )
        _check(name, value)
    found = replace(DEFAULTS[algorithm], **changes)
    return replace(found, hidden=tuple(found.hidden))


def used_by(name: str) -> tuple[Algorithm, ...]:
    """The algorithms that use a setting."""
    return _USED_BY.get(name, get_args(Algorithm))


def defaults_table() -> list[tuple[str, str, str]]:
    """Each setting's name, its default in the algorithms that use it, and what it is."""
    told = dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", getdoc(Settings) or "", re.MULTILINE))
    return [
        (f.name, _defaults_of(f.name), " ".join(told.get(f.name, "").replace("``", "").split()))
        for f in fields(Settings)
    ]


def _defaults_of(name: str) -> str:
    """One value if all agree; else each algorithm's."""
    users = used_by(name)
    values = {algorithm: getattr(DEFAULTS[algorithm], name) for algorithm in users}
    all_use = len(users) == len(DEFAULTS)
    if len(set(values.values())) == 1:
        value = _shown(values[users[0]])
        return value if all_use else f"{value} ({', '.join(users)})"
    return ", ".join(f"{_shown(value)} ({algorithm})" for algorithm, value in values.items())


def _shown(value: Any) -> str:
    """As ``--set`` takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def described(algorithm: str, settings: Settings) -> dict[str, Any]:
    """Algorithm and settings in plain values."""
    return {"algorithm": algorithm, **asdict(settings), "hidden": list(settings.hidden)}


def _check(name: str, value: Any) -> None:
    holds, rule = _RULES.get(name, (lambda _: True, ""))
    try:
        good = holds(value)
    except TypeError:
        good = False
    if not good:
        default = getattr(Settings(), name)
        raise InvalidInputError(f"{name} must be {rule}, got {value!r}; the default is {default}")


def _near(word: str, known: list[str]) -> str:
    near = get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
