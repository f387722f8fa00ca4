"""`FisherSampler` of the package fisherbo, for the OptunaHub registry."""

from fisherbo import FisherSampler

__all__ = ["FisherSampler"]
