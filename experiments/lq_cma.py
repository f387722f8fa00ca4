"""lq-CMA-ES as an Optuna sampler, for comparisons: ``pip install -c constraints.txt cma``.

N. Hansen 2019, "A global surrogate assisted CMA-ES", GECCO: the function ``fmin_lq_surr2`` of its
author's package, which calls the loss, runs in a coroutine that pauses at each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from greenlet import getcurrent, greenlet
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

STEP = 0.2
"""First standard deviation, as a share of the box."""


class LqCmaSampler(BaseSampler):
    """One study, one trial after another, of floats without steps or logarithms, to minimise.

    The search begins at the best of the trials that were enqueued. Once it has converged it begins
    again at a random point, with twice the population.

    Args:
        seed: Seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._search: greenlet | None = None
        self._asked: NDArray[np.float64] | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters of all trials."""
        return optuna.search_space.intersection_search_space(study.get_trials(deepcopy=False))

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point whose value the search waits for."""
        if not search_space or "fixed_params" in trial.system_attrs:
            return {}
        low, width = _box(search_space)
        if self._search is None:
            best = np.array([study.best_params[name] for name in search_space])
            self._search = greenlet(self._run)
            self._asked = self._search.switch((best - low) / width)
        assert self._asked is not None
        values = low + width * np.clip(self._asked, 0, 1)
        return dict(zip(search_space, values.tolist(), strict=True))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Uniform, for a study's first trial."""
        sampler = optuna.samplers.RandomSampler(self._seed)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Tell the search the value that it waits for."""
        if self._search is not None and values is not None:
            self._asked = self._search.switch(float(values[0]))

    def _run(self, first: NDArray[np.float64]) -> None:
        import cma

        rng, starts = np.random.default_rng(self._seed), [first]

        def loss(u: NDArray[np.float64]) -> float:
            told: float = getcurrent().parent.switch(np.array(u))
            return told

        def start() -> NDArray[np.float64]:
            return starts.pop() if starts else rng.random(len(first))

        options = {"bounds": [0, 1], "verbose": -9, "seed": self._seed + 1}
        cma.fmin_lq_surr2(loss, start, STEP, options, restarts=9)


def _box(
    search_space: dict[str, BaseDistribution],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest values and widths."""
    ends = []
    for name, d in search_space.items():
        if not isinstance(d, FloatDistribution) or d.step or d.log:
            raise ValueError(f"lq-CMA-ES needs plain floats, got {name}: {d}")
        ends.append((d.low, d.high - d.low))
    low, width = np.array(ends).T
    return low, width
