"""All trials of a study as a table of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler.next_trial import shown
from fisherbo.sampler.reports import reports_of
from fisherbo.visualization.notation import PLAIN, Notation

_REASON = "failure"  # trial attribute that `fisherbo.tune_training` writes


def trial_table(study: Study, notation: Notation = PLAIN) -> list[list[str]]:
    """A line of names, then one a trial: number, state, values, duration, parameters, and reason.

    The reason is that of a trial that failed, where it is known. What the notation adds to the
    parameters has a column where it varies.
    """
    trials = study.get_trials(deepcopy=False)
    written = [notation.write(trial.params) if trial.params else {} for trial in trials]
    searched = {name for trial in trials for name in trial.params}
    params = [name for name in _names(written) if name in searched or _varies(written, name)]
    count = len(study.directions)
    values = ["value"] if count == 1 else [f"value {j}" for j in range(count)]
    noted = [_reason(trial) for trial in trials]
    last = ["reason"] if any(noted) else []
    lines = [["number", "state", *values, "seconds", *params, *last]]
    for trial, values_of, reason in zip(trials, written, noted, strict=True):
        cells = [shown(value) for value in _values(trial, count)]
        chosen = [shown(values_of.get(name, "")) for name in params]
        end = [reason] if last else []
        state = trial.state.name.lower()
        lines.append([str(trial.number), state, *cells, _seconds(trial), *chosen, *end])
    return lines


def _names(written: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for params in written for name in params))


def _varies(written: Sequence[Mapping[str, Any]], name: str) -> bool:
    return len({repr(params[name]) for params in written if name in params}) > 1


def _values(trial: FrozenTrial, count: int) -> list[float | str]:
    if trial.values is not None:
        return [float(value) for value in trial.values]
    reports = reports_of(trial, count)
    if trial.state == TrialState.PRUNED and reports[0]:
        return [float(told[max(told)]) for told in reports]
    return [""] * count


def _seconds(trial: FrozenTrial) -> str:
    return "" if trial.duration is None else f"{trial.duration.total_seconds():.3g}"


def _reason(trial: FrozenTrial) -> str:
    if trial.state != TrialState.FAIL:
        return ""
    return str(trial.user_attrs.get(_REASON, ""))
