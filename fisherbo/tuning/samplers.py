"""Samplers by name, each a function of (seed, trial number) so that workers never draw alike."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fisherbo.tuning.names import require_known
from fisherbo.tuning.record import failure

SAMPLERS = ("fisher", "gp", "tpe", "random")


class TrialSampler(BaseSampler):
    """Passes every call to the sampler of the running trial, and knows which trial that is.

    Args:
        sampler_of: returns the sampler that a trial of this number asks.
    """

    def __init__(self, sampler_of: Callable[[int], BaseSampler]) -> None:
        self._sampler_of = sampler_of
        self._inner = sampler_of(0)
        self.running: int | None = None

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take the trial's sampler."""
        self.running = trial.number
        self._inner = self._sampler_of(trial.number)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Search space of the trial's sampler."""
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Parameters from the trial's sampler."""
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """One parameter from the trial's sampler."""
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the trial's sampler how it ended; an interruption teaches nothing."""
        if state == TrialState.FAIL and failure(trial) is None:
            return
        self._inner.after_trial(study, trial, state, values)

    def give_up(self, study: Study) -> None:
        """Fail this worker's trial if it is left running; it does not count and is run again."""
        if self.running is None:
            return
        with contextlib.suppress(Exception):
            running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if any(trial.number == self.running for trial in running):
                study.tell(self.running, state=TrialState.FAIL)

    def reseed_rng(self) -> None:
        """Reseed the trial's sampler."""
        self._inner.reseed_rng()


def trial_sampler(sampler: str | BaseSampler, seed: int) -> TrialSampler:
    """Sampler of a name, or the caller's own.

    Raises:
        InvalidInputError: no sampler has the name.
    """
    if isinstance(sampler, BaseSampler):
        return TrialSampler(lambda number: sampler)
    require_known("sampler", sampler, SAMPLERS)
    if sampler == "fisher":
        return trial_sampler(_fisher(seed), seed)
    kinds: dict[str, Callable[..., BaseSampler]] = {
        "gp": GPSampler,
        "tpe": TPESampler,
        "random": RandomSampler,
    }
    return TrialSampler(lambda number: kinds[sampler](seed=_mix(seed, number)))


def _fisher(seed: int) -> BaseSampler:
    from fisherbo.sampler import FisherSampler

    return FisherSampler(seed=seed)


def _mix(seed: int, number: int) -> int:
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
