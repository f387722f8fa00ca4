"""The best value so far over the trials of one study or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.space import Array, Integers, Mask
from fisherbo.visualization.style import (
    COLOURS,
    band,
    colours,
    graph_objects,
    lay_out,
    whole_numbers,
)
from fisherbo.visualization.view import value_kind

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class _History:
    """Complete trials of one study with finite values: number, value, whether it is feasible."""

    number: Integers
    value: Array
    feasible: Mask
    maximize: bool

    def best(self) -> tuple[Integers, Array]:
        """Numbers of the feasible trials, and the best value until each."""
        better = np.maximum if self.maximize else np.minimum
        found: Array = better.accumulate(self.value[self.feasible])
        return self.number[self.feasible], found


def plot_optimization_history(
    study: Study | Sequence[Study] | Mapping[str, Study],
    *,
    target: Callable[[FrozenTrial], float] | None = None,
    target_name: str = "objective value",
    error_bar: bool = False,
) -> Figure:
    """Figure of the best value so far over the trials of each study, with each trial's value.

    Trials that do not meet their constraints are open marks, and are never the best. The axis is
    logarithmic where values are positive and span a thousandfold.

    Args:
        study: a study, or several to be compared, by name where their own names are not to be used.
        target: what to show of a trial; if None the objective, which must be the only one.
        target_name: what that is called, with its unit.
        error_bar: whether to show, instead of each study, the mean of their best values with a band
            of one standard deviation, at the trials where every study has a best value.

    Raises:
        InvalidInputError: there is no target, and a study has several objectives.
        MissingExtraError: plotly is not installed.
    """
    figure = graph_objects().Figure()
    found = {name: _history(name, one, target) for name, one in _by_name(study).items()}
    if error_bar:
        _add_mean(figure, list(found.values()))
    else:
        for colour, (name, history) in zip(colours(len(found)), found.items(), strict=True):
            _add_study(figure, name, history, colour)
    lay_out(figure, "Best value so far over trials", "trial number")
    whole_numbers(figure.layout.xaxis, [n for h in found.values() for n in h.number.tolist()])
    values = np.concatenate([np.empty(0), *(history.value for history in found.values())])
    figure.update_yaxes(title=target_name, type=value_kind(values))
    return figure


def _history(name: str, study: Study, target: Callable[[FrozenTrial], float] | None) -> _History:
    if target is None and len(study.directions) > 1:
        raise InvalidInputError(
            f"target must be given for study {name!r} with {len(study.directions)} objectives, "
            "got None; pass for example target=lambda trial: trial.values[0]"
        )
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    shown = [float(t.values[0]) if target is None else float(target(t)) for t in trials]
    finite = [k for k, value in enumerate(shown) if math.isfinite(value)]
    return _History(
        np.array([trials[k].number for k in finite], dtype=np.int64),
        np.array([shown[k] for k in finite], dtype=np.float64),
        np.array([_is_feasible(trials[k]) for k in finite], dtype=bool),
        study.directions[0] == StudyDirection.MAXIMIZE,
    )


def _is_feasible(trial: FrozenTrial) -> bool:
    return all(value <= 0 for value in trial.constraints.values())


def _add_study(figure: Figure, name: str, history: _History, colour: str) -> None:
    feasible = history.feasible
    groups = [("trials", feasible, "circle"), ("infeasible trials", ~feasible, "circle-open")]
    for kind, group, symbol in groups:
        if kind == "trials" or group.any():
            figure.add_scatter(
                x=history.number[group], y=history.value[group], name=f"{name}, {kind}",
                mode="markers", opacity=0.7,
                marker={"color": colour, "size": 6, "symbol": symbol},
            )  # fmt: skip
    number, best = history.best()
    figure.add_scatter(
        x=number, y=best, name=f"{name}, best so far", mode="lines",
        line={"color": colour, "width": 2, "shape": "hv"},
    )  # fmt: skip


def _add_mean(figure: Figure, histories: Sequence[_History]) -> None:
    """The mean of the best values at trials that all have reached, a band of one deviation."""
    curves = [history.best() for history in histories]
    first = max((int(number[0]) for number, _ in curves if len(number)), default=0)
    last = min((int(number[-1]) for number, _ in curves if len(number)), default=-1)
    steps = np.arange(first, last + 1) if all(len(number) for number, _ in curves) else np.empty(0)
    at = [best[np.searchsorted(number, steps, "right") - 1] for number, best in curves]
    values = np.array(at).reshape(len(curves), len(steps))
    mean, sd = values.mean(0), values.std(0)
    figure.add_trace(band(steps, mean - sd, mean + sd, COLOURS[0], "one standard deviation"))
    figure.add_scatter(
        x=steps, y=mean, name="mean of the best so far", mode="lines",
        line={"color": COLOURS[0], "width": 2},
    )  # fmt: skip


def _by_name(study: Study | Sequence[Study] | Mapping[str, Study]) -> dict[str, Study]:
    """The studies by the names of their curves; those of one name are numbered."""
    if isinstance(study, Mapping):
        return dict(study)
    several = [study] if isinstance(study, Study) else list(study)
    names = [one.study_name for one in several]
    alike = len(set(names)) < len(names)
    return {
        f"{name} ({k})" if alike else name: one
        for k, (name, one) in enumerate(zip(names, several, strict=True))
    }
