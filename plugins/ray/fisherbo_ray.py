"""`FisherSampler` as a search algorithm of Ray Tune."""

from typing import Any

from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from fisherbo import FisherSampler


def fisher_search(
    metric: str, mode: str, *, max_concurrent: int = 2, seed: int | None = None, **sampler: Any
) -> ConcurrencyLimiter:
    """A search algorithm for ``tune.TuneConfig(search_alg=...)``.

    Args:
        metric: Name of the reported value.
        mode: "min" or "max".
        max_concurrent: Trials under way at a time; the sampler expects the values of these.
        seed: Of the sampler (Ray's own does not reach it).
        **sampler: Further arguments of `fisherbo.FisherSampler`.
    """
    search = OptunaSearch(metric=metric, mode=mode, sampler=FisherSampler(seed=seed, **sampler))
    return ConcurrencyLimiter(search, max_concurrent=max_concurrent)
