"""All trials of a study as a table of texts."""

from __future__ import annotations

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler.next_trial import shown

_REASON = "failure"  # trial attribute that `fisherbo.tune_training` writes


def trial_table(study: Study) -> list[list[str]]:
    """A line of names, then one a trial: number, state, values, duration, parameters, and reason.

    The reason is that of a trial that failed, where it is known.
    """
    trials = study.get_trials(deepcopy=False)
    params = list(dict.fromkeys(name for trial in trials for name in trial.params))
    count = len(study.directions)
    values = ["value"] if count == 1 else [f"value {j}" for j in range(count)]
    noted = [_reason(trial) for trial in trials]
    last = ["reason"] if any(noted) else []
    lines = [["number", "state", *values, "seconds", *params, *last]]
    for trial, reason in zip(trials, noted, strict=True):
        cells = [shown(value) for value in _values(trial, count)]
        chosen = [shown(trial.params[name]) if name in trial.params else "" for name in params]
        end = [reason] if last else []
        state = trial.state.name.lower()
        lines.append([str(trial.number), state, *cells, _seconds(trial), *chosen, *end])
    return lines


def _values(trial: FrozenTrial, count: int) -> list[float | str]:
    if trial.values is not None:
        return [float(value) for value in trial.values]
    if trial.state == TrialState.PRUNED and trial.intermediate_values and count == 1:
        return [float(trial.intermediate_values[max(trial.intermediate_values)])]
    return [""] * count


def _seconds(trial: FrozenTrial) -> str:
    return "" if trial.duration is None else f"{trial.duration.total_seconds():.3g}"


def _reason(trial: FrozenTrial) -> str:
    if trial.state != TrialState.FAIL:
        return ""
    return str(trial.user_attrs.get(_REASON, ""))
