"""Policy optimisation on the natural-gradient core: TRPO, PPO, ACKTR's step, policy gradient.

Public names are imported when they are first used; `train` and `Agent` need gymnasium.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fisherbo.rl.agent import Agent as Agent
    from fisherbo.rl.batch import Batch as Batch
    from fisherbo.rl.batch import PolicyStep as PolicyStep
    from fisherbo.rl.curvature import KroneckerCurvature as KroneckerCurvature
    from fisherbo.rl.gae import advantages as advantages
    from fisherbo.rl.learner import Update as Update
    from fisherbo.rl.policy import Actor as Actor
    from fisherbo.rl.policy import Spec as Spec
    from fisherbo.rl.ppo import policy_gradient_update as policy_gradient_update
    from fisherbo.rl.ppo import ppo_update as ppo_update
    from fisherbo.rl.rollout import Episode as Episode
    from fisherbo.rl.run import TrainingResult as TrainingResult
    from fisherbo.rl.run import train as train
    from fisherbo.rl.settings import Settings as Settings
    from fisherbo.rl.trpo import trpo_update as trpo_update

_HOME = {
    "Actor": "policy",
    "Agent": "agent",
    "Batch": "batch",
    "Episode": "rollout",
    "KroneckerCurvature": "curvature",
    "PolicyStep": "batch",
    "Settings": "settings",
    "Spec": "policy",
    "TrainingResult": "run",
    "Update": "learner",
    "advantages": "gae",
    "policy_gradient_update": "ppo",
    "ppo_update": "ppo",
    "train": "run",
    "trpo_update": "trpo",
}

__all__ = [
    "Actor",
    "Agent",
    "Batch",
    "Episode",
    "KroneckerCurvature",
    "PolicyStep",
    "Settings",
    "Spec",
    "TrainingResult",
    "Update",
    "advantages",
    "policy_gradient_update",
    "ppo_update",
    "train",
    "trpo_update",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'fisherbo.rl' has no attribute {name!r}")
    value = getattr(import_module(f"fisherbo.rl.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
