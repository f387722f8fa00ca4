"""The Optuna adapter: trials in, parameters out."""

from fisherbo.sampler.sampler import FisherSampler

__all__ = ["FisherSampler"]
