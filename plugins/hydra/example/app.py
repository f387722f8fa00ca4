"""A function of two numbers, least at x = 1 and lr = 0.01."""

import math

import hydra
from omegaconf import DictConfig


@hydra.main(
    version_base=None, config_path=".", config_name="config", execution_whitelist="fisherbo.*"
)
def main(config: DictConfig) -> float:
    """The value to minimise."""
    return float((config.x - 1) ** 2 + (math.log10(config.lr) + 2) ** 2)


if __name__ == "__main__":
    main()
