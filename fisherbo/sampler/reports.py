"""Reports of several metrics, or of several objectives, which Optuna's trials have no place for.

`report` keeps each in an attribute of its own: no text grows with the number of steps, and none is
written twice. The metrics of the objectives come first in it, in the order of the objectives. With
one objective, its metric is reported as usual too, so that every pruner, dashboard and plot knows
it.

What reads learning curves reads those of one objective. Of several objectives, `of_objective` makes
the trial that a study of one of them alone would have.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.optuna_private import as_begun, set_system_attr, trial_id

REPORT = "fisherbo:report:"
"""Beginning of a trial's system attributes that hold a report each; the step follows."""

Reports = Mapping[int, float]
"""What was reported of one metric, by step."""


def report(trial: BaseTrial, values: Mapping[str, float], step: int) -> None:
    """Report several metrics of a trial at a step, in studies of one or several objectives.

    Optuna's ``trial.report`` takes one number, and none in a study of several objectives. The
    metrics of the objectives are those that ``study.set_metric_names`` names; otherwise the first
    ones, in the order of the objectives. They decide whether a trial is stopped (`should_prune`);
    further metrics are kept and shown. All are system attributes, one a step, which
    ``study.trials_dataframe`` leaves out if ``"system_attrs"`` is not in its ``attrs``.

    Args:
        trial: The objective's trial. One that Optuna keeps no study of, such as a `FixedTrial`, is
            told of the first metric alone.
        values: Metrics by name. NaN and infinite values are allowed, and stop a trial of
            `fisherbo.FisherPruner` where an objective has them.
        step: At least 0. A second report of a step is ignored with a warning, as by Optuna.

    Raises:
        InvalidInputError: If a value is no number, the step is no whole number of at least 0, or
            the metric of an objective is missing.

    Example:
        >>> import optuna
        >>> def objective(trial):
        ...     width = trial.suggest_int("width", 1, 64)
        ...     for epoch in range(5):
        ...         error = 1 / (width * (epoch + 1))
        ...         report(trial, {"error": error, "size": width}, epoch)
        ...     return error, width
        >>> study = optuna.create_study(directions=["minimize", "minimize"])
        >>> study.optimize(objective, n_trials=2)
    """
    told, step = _checked(values), _checked_step(step)
    if not isinstance(trial, Trial):
        trial.report(next(iter(told.values())), step)
        return
    study = trial.study
    ordered = _objectives_first(told, study.metric_names, len(study.directions))
    key = f"{REPORT}{step}"
    known = as_begun(trial).system_attrs
    if key in known:
        warnings.warn(
            f"the report of step {step} is ignored, since trial {trial.number} has one of it",
            stacklevel=2,
        )
        return
    if len(study.directions) == 1:
        trial.report(next(iter(ordered.values())), step)
    if len(ordered) > 1:
        kept = {name: v if math.isfinite(v) else str(v) for name, v in ordered.items()}
        set_system_attr(study, trial, key, kept)
        known[key] = kept


def metrics_of(trial: FrozenTrial) -> dict[str, Reports]:
    """What a trial reported of each metric by `report`, in the order of its first report."""
    found: dict[str, dict[int, float]] = {}
    for step, values in _kept(trial):
        for name, value in values.items():
            found.setdefault(name, {})[step] = float(value)
    return dict(found)


def has_reports(trial: FrozenTrial, objectives: int) -> bool:
    """Whether a trial reported something of its objectives."""
    if objectives == 1:
        return bool(trial.intermediate_values)
    return any(key.startswith(REPORT) for key in trial.system_attrs)


def last_step(trial: FrozenTrial) -> int:
    """The last step at which a trial reported something, which it did."""
    keys = (key for key in trial.system_attrs if key.startswith(REPORT))
    return max(trial.intermediate_values or (int(key[len(REPORT) :]) for key in keys))


def reports_of(trial: FrozenTrial, objectives: int) -> tuple[Reports, ...]:
    """What a trial reported of each objective.

    Args:
        trial: The trial.
        objectives: How many objectives its study has.
    """
    if objectives == 1:
        return (trial.intermediate_values,)
    found: tuple[dict[int, float], ...] = tuple({} for _ in range(objectives))
    for step, values in _kept(trial):
        for told, value in zip(found, islice(values.values(), objectives), strict=True):
            told[step] = float(value)
    return found


def of_objective(trial: FrozenTrial, objective: int, reports: Reports) -> FrozenTrial:
    """The trial that a study of this objective alone would have.

    Args:
        trial: A trial of a study of several objectives.
        objective: Which of them.
        reports: What the trial reported of it.
    """
    complete = trial.state == TrialState.COMPLETE
    return FrozenTrial(
        trial.number,
        trial.state,
        trial.values[objective] if complete else None,
        trial.datetime_start,
        trial.datetime_complete,
        trial.params,
        trial.distributions,
        trial.user_attrs,
        trial.system_attrs,
        dict(reports),
        trial_id(trial),
    )


class ObjectiveViews:
    """Trials as studies of each objective alone would have them; finished ones are read once.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[FrozenTrial, ...]] = {}

    def of(self, trial: FrozenTrial, objectives: int) -> tuple[FrozenTrial, ...]:
        """The trial in each objective."""
        if objectives == 1:
            return (trial,)
        with self._lock:
            found = self._known.get(trial.number)
        if found is None:
            told = enumerate(reports_of(trial, objectives))
            found = tuple(of_objective(trial, j, reports) for j, reports in told)
            if trial.state.is_finished():
                with self._lock:
                    self._known[trial.number] = found
        return found

    def columns(
        self, trials: Sequence[FrozenTrial], objectives: int
    ) -> list[tuple[FrozenTrial, ...]]:
        """All trials in each objective."""
        rows = [self.of(trial, objectives) for trial in trials]
        return [tuple(row[j] for row in rows) for j in range(objectives)]


def _kept(trial: FrozenTrial) -> list[tuple[int, Mapping[str, Any]]]:
    """Reports with their steps, ascending."""
    known = trial.system_attrs.items()
    return sorted((int(k[len(REPORT) :]), v) for k, v in known if k.startswith(REPORT))


def _checked(values: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(values, Mapping) or not values:
        raise InvalidInputError(
            f"values must be a dict from names of metrics to numbers, got {values!r}; for example "
            '{"loss": 0.3, "accuracy": 0.9}'
        )
    try:
        return {str(name): float(value) for name, value in values.items()}
    except (TypeError, ValueError):
        raise InvalidInputError(
            f"values must be numbers, got {dict(values)!r}; convert tensors by .item()"
        ) from None


def _checked_step(step: int) -> int:
    try:
        whole = int(step)
    except (TypeError, ValueError, OverflowError):
        whole = -1
    if whole < 0 or whole != step:
        raise InvalidInputError(
            f"step must be a whole number of at least 0, got {step!r}; for example the epoch"
        )
    return whole


def _objectives_first(
    told: Mapping[str, float], names: Sequence[str] | None, objectives: int
) -> dict[str, float]:
    """The metrics, those of the objectives first."""
    if names is None:
        if len(told) < objectives:
            raise InvalidInputError(
                f"values must have a metric for each of the {objectives} objectives, got "
                f"{list(told)}; report all of them, in the order of the objectives"
            )
        return dict(told)
    missing = [name for name in names if name not in told]
    if missing:
        raise InvalidInputError(
            f"values must have the objectives' metrics {list(names)}, got {list(told)}; report "
            "those that study.set_metric_names names"
        )
    return {**{name: told[name] for name in names}, **told}
