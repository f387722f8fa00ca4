"""Learning curves of a study's trials, and where those that were stopped were believed to end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.pruner import (
    IMPROVEMENT_PROBABILITY,
    PREDICTED_END,
    PREDICTED_INTERVAL,
)
from fisherbo.visualization.style import COLOURS, GREY, graph_objects, lay_out

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

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
        improvement: Probability that it ends better than the best complete trial.
    """

    number: int
    steps: tuple[int, ...]
    reports: tuple[float, ...]
    state: TrialState
    end: float | None
    low: float | None
    high: float | None
    improvement: float | None


def predicted_ends(study: Study) -> tuple[PredictedEnd, ...]:
    """Curves of the trials that reported something, with what was predicted of their ends.

    Args:
        study: A study with one objective, of any pruner.
    """
    trials = study.get_trials(deepcopy=False, states=_SHOWN)
    return tuple(_predicted_end(t) for t in trials if t.intermediate_values)


def _predicted_end(trial: FrozenTrial) -> PredictedEnd:
    told = sorted((s, v) for s, v in trial.intermediate_values.items() if math.isfinite(v))
    known = trial.user_attrs
    low, high = known.get(PREDICTED_INTERVAL, (None, None))
    return PredictedEnd(
        trial.number,
        tuple(step for step, _ in told),
        tuple(value for _, value in told),
        trial.state,
        known.get(PREDICTED_END),
        low,
        high,
        known.get(IMPROVEMENT_PROBABILITY),
    )


def plot_learning_curves(study: Study) -> Figure:
    """Figure of all learning curves, with the predicted ends of those that `FisherPruner` stopped.

    The curve of the best trial is emphasised; of more than 200 trials, the best and the latest are
    shown.

    Args:
        study: A study with one objective whose trials report values.

    Raises:
        InvalidInputError: No trial reported a value, or the study has several objectives.
        MissingExtraError: plotly is not installed.
    """
    go = graph_objects()
    if len(study.directions) != 1:
        raise InvalidInputError(
            f"study must have one objective, got {len(study.directions)}; trials with several "
            "report nothing"
        )
    curves = [curve for curve in predicted_ends(study) if curve.steps]
    if not curves:
        raise InvalidInputError(
            "study must have a trial that reported values, got none; call trial.report in the "
            "objective"
        )
    best = _best(curves, 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0)
    last = max(curve.steps[-1] for curve in curves)
    shown = curves[-_MOST:]
    shown = shown if best is None or best in shown else [*shown, best]
    figure = go.Figure()
    for name, colour, chosen in (
        ("pruned", GREY, [c for c in shown if c.state == TrialState.PRUNED]),
        ("running", COLOURS[2], [c for c in shown if c.state == TrialState.RUNNING]),
        ("complete", COLOURS[0], [c for c in shown if c.state == TrialState.COMPLETE]),
        ("best", COLOURS[1], [] if best is None else [best]),
    ):
        _add_curves(figure, name, colour, chosen)
    told = [c for c in shown if c.state != TrialState.COMPLETE and c.end is not None]
    _add_ends(figure, told, last)
    title = "Learning curves, and predicted ends of stopped trials" if told else "Learning curves"
    lay_out(figure, title, "step")
    figure.update_yaxes(title="reported value")
    return figure


def _best(curves: list[PredictedEnd], sign: float) -> PredictedEnd | None:
    """The complete curve of the best last report."""
    complete = [c for c in curves if c.state == TrialState.COMPLETE]
    return max(complete, key=lambda c: sign * c.reports[-1], default=None)


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
    width = 3 if name == "best" else 1
    figure.add_scatter(
        x=x, y=y, text=text, name=name, mode="lines+markers", connectgaps=False,
        line={"color": colour, "width": width}, marker={"size": 2 + width},
        opacity=1.0 if name == "best" else 0.5, hovertemplate="%{text}: %{y} at step %{x}",
    )  # fmt: skip


def _add_ends(figure: Figure, told: list[PredictedEnd], last: int) -> None:
    """Predicted ends with their intervals, at the last step."""
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
        text=[
            f"trial {c.number}, better than the best with probability {c.improvement:.2g}"
            for c in told
        ],
        hovertemplate="%{text}: %{y}",
    )  # fmt: skip
