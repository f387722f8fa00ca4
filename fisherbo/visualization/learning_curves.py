"""Learning curves of a study's trials, and where those that were stopped were believed to end."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.pruner import (
    IMPROVEMENT_PROBABILITY,
    PREDICTED_END,
    PREDICTED_INTERVAL,
)
from fisherbo.sampler.reports import Reports, metrics_of, reports_of
from fisherbo.visualization.style import COLOURS, GREY, graph_objects, lay_out

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BEST, FRONT = "best", "Pareto front"
_UNNAMED = "reported value"
_MOST = 200
_SHOWN = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


@dataclass(frozen=True)
class PredictedEnd:
    """What `FisherPruner` last said of a trial, in units of its reports.

    Attributes:
        number: Of the trial.
        steps: At which it reported, ascending.
        reports: What it reported; NaN and infinite ones are left out.
        state: Of the trial.
        end: Median of its last report; None where nothing was predicted.
        low: Lower end of the central 95 % interval.
        high: Upper end.
        improvement: Probability that it ends better than the best complete trial, or not dominated.
    """

    number: int
    steps: tuple[int, ...]
    reports: tuple[float, ...]
    state: TrialState
    end: float | None
    low: float | None
    high: float | None
    improvement: float | None


def predicted_ends(
    study: Study, *, objective: int = 0, metric: str | None = None
) -> tuple[PredictedEnd, ...]:
    """Curves of the trials that reported something, with what was predicted of their ends.

    Args:
        study: A study of any pruner.
        objective: Which of several objectives.
        metric: Name of a metric that `fisherbo.report` told, in place of an objective; of metrics
            that are no objective's no ends are predicted.
    """
    trials = study.get_trials(deepcopy=False, states=_SHOWN)
    several = len(study.directions) > 1
    if metric is None:
        told = ((t, reports_of(t, len(study.directions))[objective]) for t in trials)
        return tuple(_predicted_end(t, r, objective if several else None) for t, r in told if r)
    named = ((t, metrics_of(t).get(metric, {})) for t in trials)
    return tuple(_curve(t, reports) for t, reports in named if reports)


def further_metrics(study: Study) -> tuple[str, ...]:
    """Names of the metrics that `fisherbo.report` told beside those of the objectives."""
    trials = study.get_trials(deepcopy=False, states=_SHOWN)
    found = (list(metrics_of(t))[len(study.directions) :] for t in trials)
    return tuple(dict.fromkeys(name for names in found for name in names))


def _curve(trial: FrozenTrial, reports: Reports) -> PredictedEnd:
    told = sorted((s, v) for s, v in reports.items() if math.isfinite(v))
    steps, values = tuple(s for s, _ in told), tuple(v for _, v in told)
    return PredictedEnd(trial.number, steps, values, trial.state, None, None, None, None)


def _predicted_end(trial: FrozenTrial, reports: Reports, objective: int | None) -> PredictedEnd:
    known, curve = trial.user_attrs, _curve(trial, reports)
    if PREDICTED_END not in known:
        return curve
    end, (low, high) = known[PREDICTED_END], known[PREDICTED_INTERVAL]
    if objective is not None:
        end, low, high = end[objective], low[objective], high[objective]
    improvement = known[IMPROVEMENT_PROBABILITY]
    return replace(curve, end=end, low=low, high=high, improvement=improvement)


def plot_learning_curves(study: Study, *, objective: int = 0, metric: str | None = None) -> Figure:
    """Figure of all learning curves, with the predicted ends of those that `FisherPruner` stopped.

    The curve of the best trial is emphasised, of several objectives those of the Pareto front; of
    more than 200 trials, these and the latest are shown.

    Args:
        study: A study whose trials report values, by ``trial.report`` or `fisherbo.report`.
        objective: Which of several objectives.
        metric: Name of a metric that `fisherbo.report` told, in place of an objective.

    Raises:
        InvalidInputError: No trial reported such a value, or there is no such objective.
        MissingExtraError: plotly is not installed.
    """
    go = graph_objects()
    if not 0 <= objective < len(study.directions):
        raise InvalidInputError(
            f"objective must be one of the study's {len(study.directions)}, counted from 0, got "
            f"{objective!r}"
        )
    told = predicted_ends(study, objective=objective, metric=metric)
    curves = [curve for curve in told if curve.steps]
    if not curves:
        raise InvalidInputError(_nothing_told(study, metric))
    best = _best(study, curves) if metric is None else []
    last = max(curve.steps[-1] for curve in curves)
    shown = curves[-_MOST:]
    shown = [*shown, *(curve for curve in best if curve not in shown)]
    figure = go.Figure()
    for name, colour, chosen in (
        ("pruned", GREY, [c for c in shown if c.state == TrialState.PRUNED]),
        ("running", COLOURS[2], [c for c in shown if c.state == TrialState.RUNNING]),
        ("complete", COLOURS[0], [c for c in shown if c.state == TrialState.COMPLETE]),
        (BEST if len(study.directions) == 1 else FRONT, COLOURS[1], best),
    ):
        _add_curves(figure, name, colour, chosen)
    ends = [c for c in shown if c.state != TrialState.COMPLETE and c.end is not None]
    better = "better than the best" if len(study.directions) == 1 else "not dominated"
    _add_ends(figure, ends, last, better)
    name = metric or _name(study, objective)
    title = "Learning curves" if name == _UNNAMED else f"Learning curves: {name}"
    lay_out(figure, f"{title}, and predicted ends of stopped trials" if ends else title, "step")
    figure.update_yaxes(title=name)
    return figure


def _nothing_told(study: Study, metric: str | None) -> str:
    known = further_metrics(study)
    if metric is not None:
        return (
            f"study must have a trial that reported {metric!r}, got none; "
            f"known are {', '.join(known) or 'no further metrics'}"
        )
    how = "trial.report" if len(study.directions) == 1 else "fisherbo.report"
    return f"study must have a trial that reported values, got none; call {how} in the objective"


def _name(study: Study, objective: int) -> str:
    """What the values of an objective are called on the axis."""
    if study.metric_names is not None:
        return study.metric_names[objective]
    if len(study.directions) == 1:
        return _UNNAMED
    told = (metrics_of(t) for t in study.get_trials(deepcopy=False, states=_SHOWN))
    first = next((list(names) for names in told if names), [])
    return first[objective] if first else f"objective {objective}"


def _best(study: Study, curves: list[PredictedEnd]) -> list[PredictedEnd]:
    """The complete curve of the best last report; of several objectives those of the front."""
    if len(study.directions) > 1:
        front = {trial.number for trial in study.best_trials}
        return [curve for curve in curves if curve.number in front]
    sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
    complete = [c for c in curves if c.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda c: -sign * c.reports[-1])[:1]


def _add_curves(figure: Figure, name: str, colour: str, curves: list[PredictedEnd]) -> None:
    """Curves as one trace, with gaps between them."""
    if not curves:
        return
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for curve in curves:
        x += [*curve.steps, None]
        y += [*curve.reports, None]
        text += [f"trial {curve.number}"] * (len(curve.steps) + 1)
    emphasised = name in (BEST, FRONT)
    width = 3 if emphasised else 1
    figure.add_scatter(
        x=x, y=y, text=text, name=name, mode="lines+markers", connectgaps=False,
        line={"color": colour, "width": width}, marker={"size": 2 + width},
        opacity=1.0 if emphasised else 0.5, hovertemplate="%{text}: %{y} at step %{x}",
    )  # fmt: skip


def _add_ends(figure: Figure, told: list[PredictedEnd], last: int, better: str) -> None:
    """Predicted ends with their intervals, at the last step, and the probability to be better."""
    if not told:
        return
    figure.add_scatter(
        x=[last] * len(told), y=[c.end for c in told], name="predicted end, 95 %", mode="markers",
        marker={"color": GREY, "symbol": "diamond-open", "size": 7}, opacity=0.6,
        error_y={
            "type": "data", "symmetric": False, "thickness": 1, "width": 0,
            "array": [(c.high or 0.0) - (c.end or 0.0) for c in told],
            "arrayminus": [(c.end or 0.0) - (c.low or 0.0) for c in told],
        },
        text=[f"trial {c.number}, {better} with probability {c.improvement:.2g}" for c in told],
        hovertemplate="%{text}: %{y}",
    )  # fmt: skip
