"""Every private name of Optuna that fisherbo uses, and what breaks without it.

Tested with the versions of Optuna in ``constraints.txt``; a new version needs a look at this file
only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import (
    BaseHeartbeat,
    get_heartbeat_thread,
    is_heartbeat_enabled,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState


def storage_of(study: Study) -> BaseStorage:
    """The study's storage: without it nothing could be kept with a trial, nor trials told apart."""
    return study._storage


def study_id(study: Study) -> int:
    """The study's number in its storage: without it studies of one storage are not told apart."""
    return study._study_id


def trial_id(trial: FrozenTrial | Trial) -> int:
    """The trial's number in its storage: without it no attribute could be set on a finished one."""
    return trial._trial_id


def set_system_attr(study: Study, trial: FrozenTrial | Trial, key: str, value: Any) -> None:
    """Keep an attribute with a trial, for the sampler alone.

    Optuna deprecates the public setter. Without this fitted hyperparameters and failures would have
    to be user attributes, where users see them.
    """
    storage_of(study).set_trial_system_attr(trial_id(trial), key, value)


def set_user_attr(study: Study, trial: FrozenTrial, key: str, value: Any) -> None:
    """Tell users something of a trial.

    Optuna's public setter needs the `Trial` of the objective. Without this a pruner, which is given
    a frozen copy, could not explain its decisions.
    """
    storage_of(study).set_trial_user_attr(trial_id(trial), key, value)


def set_study_system_attr(study: Study, key: str, value: Any) -> None:
    """Keep an attribute with a study: without it bounds of the regret would be user attributes."""
    storage_of(study).set_study_system_attr(study_id(study), key, value)


def study_system_attrs(study: Study) -> dict[str, Any]:
    """What is kept with a study: without it no worker would know what the others have found."""
    return storage_of(study).get_study_system_attrs(study_id(study))


def as_begun(trial: Trial) -> FrozenTrial:
    """The trial as it was when its objective began, in which Optuna notes what it reports.

    Without it every report would read the trial from the storage, to see what it reported before.
    """
    return trial._cached_frozen_trial


def get_trial(study: Study, identity: int) -> FrozenTrial:
    """A trial as the storage has it: without it attributes set since it began would be missing."""
    return storage_of(study).get_trial(identity)


def get_trials(
    study: Study, states: tuple[TrialState, ...], *, use_cache: bool
) -> list[FrozenTrial]:
    """The study's trials in order of their numbers, not copied.

    The public method has no ``use_cache``: without it Optuna would read all trials from the storage
    anew for each of a trial's steps.
    """
    return study._get_trials(deepcopy=False, states=states, use_cache=use_cache)


def get_all_trials(study: Study, states: tuple[TrialState, ...]) -> list[FrozenTrial]:
    """The same of the whole study, not copied.

    With a `HyperbandPruner` a sampler is given one bracket: without this it would not know which
    candidates other brackets have evaluated.
    """
    return storage_of(study).get_all_trials(study_id(study), deepcopy=False, states=states)


def fail_waiting(study: Study, trial: FrozenTrial) -> None:
    """End a trial that waits, unless some worker has just begun it.

    Without it a trial that two workers enqueued would be run twice.
    """
    storage, identity = storage_of(study), trial_id(trial)
    if storage.set_trial_state_values(identity, TrialState.RUNNING):
        storage.set_trial_state_values(identity, TrialState.FAIL)


def enqueued_values(trial: FrozenTrial) -> dict[str, Any]:
    """Values that ``Study.enqueue_trial`` fixed.

    Without them the other parameters of an enqueued trial would not be chosen to match.
    """
    values: dict[str, Any] = trial.system_attrs.get("fixed_params", {})
    return values


def values_of_wrappers(sampler: Any) -> dict[str, Any]:
    """Values fixed by `PartialFixedSampler`s around a sampler; those of the outermost come last.

    Without them the model would maximise over parameters that are not its own to choose.
    """
    if not isinstance(sampler, PartialFixedSampler):
        return {}
    return {**values_of_wrappers(sampler._base_sampler), **sampler._fixed_params}


def innermost(sampler: BaseSampler) -> BaseSampler:
    """The sampler within `PartialFixedSampler`s: without it its input constraints are not known."""
    while isinstance(sampler, PartialFixedSampler):
        sampler = sampler._base_sampler
    return sampler


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution allows a value: without it values of earlier studies go unchecked."""
    return distribution._contains(distribution.to_internal_repr(value))


def has_heartbeat(storage: BaseStorage) -> bool:
    """Whether running trials send heartbeats.

    Without it the trial of a killed worker would count as alive until it is very old.
    """
    return isinstance(storage, BaseHeartbeat) and is_heartbeat_enabled(storage)


def stale_trial_ids(study: Study) -> Sequence[int]:
    """Running trials whose heartbeat has stopped; none where the storage keeps no heartbeats."""
    storage = storage_of(study)
    if not isinstance(storage, BaseHeartbeat) or not is_heartbeat_enabled(storage):
        return ()
    return storage._get_stale_trial_ids(study_id(study))


@contextmanager
def heartbeat(study: Study, trial: Trial) -> Iterator[None]:
    """Send the heartbeats of a trial that was asked for, where the storage keeps them.

    Optuna sends them within `Study.optimize` alone: without this other processes would give up the
    trials that a search evaluates itself.
    """
    storage = storage_of(study)
    if not isinstance(storage, BaseHeartbeat) or not is_heartbeat_enabled(storage):
        yield
        return
    storage.record_heartbeat(trial_id(trial))  # the thread's first may come too late
    thread: Any = get_heartbeat_thread(trial_id(trial), storage)
    with thread:
        yield
