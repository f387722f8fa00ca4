"""The Optuna adapter: trials in, parameters out."""

from fisherbo.sampler.noise import NOISE_VARIANCE
from fisherbo.sampler.recommend import Recommendation
from fisherbo.sampler.sampler import FisherSampler

__all__ = ["NOISE_VARIANCE", "FisherSampler", "Recommendation"]
