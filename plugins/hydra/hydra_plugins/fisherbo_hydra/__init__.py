"""``hydra/sweeper/sampler=fisherbo`` for Hydra's Optuna sweeper."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra_plugins.hydra_optuna_sweeper.config import SamplerConfig


@dataclass
class FisherSamplerConfig(SamplerConfig):
    """Arguments of `fisherbo.FisherSampler` that a file or the command line can say."""

    _target_: str = "fisherbo.FisherSampler"
    seed: int | None = None
    _convert_: str = "all"  # plain dicts and lists for the sampler
    n_startup_trials: int = 10
    rotation: bool = True
    categories: dict[str, Any] | None = None
    priors: dict[str, Any] | None = None


ConfigStore.instance().store(
    group="hydra/sweeper/sampler",
    name="fisherbo",
    node=FisherSamplerConfig,
    provider="fisherbo_hydra",
)
