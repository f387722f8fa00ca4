"""The Optuna sampler: a study's trials in, the next trial's parameters out."""

from fisherbo.sampler.recommend import Recommendation
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.sampler.trials import NOISE_VARIANCE

__all__ = ["NOISE_VARIANCE", "FisherSampler", "Recommendation"]
