"""All there is to see of a study: a summary, and every figure that can be drawn of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.recommend import Recommendation
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.visualization import page
from fisherbo.visualization.calibration import plot_calibration
from fisherbo.visualization.contour import plot_posterior_contour
from fisherbo.visualization.importance import plot_param_importances
from fisherbo.visualization.posterior import plot_acquisition_slice, plot_posterior_slice
from fisherbo.visualization.steps import plot_kl_steps
from fisherbo.visualization.studies import (
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_pareto_front,
)
from fisherbo.visualization.training import plot_training_monitor

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Draw = Callable[[], "Figure"]


@dataclass(frozen=True)
class StudyReport:
    """What there is to see of a study.

    Attributes:
        summary: Names and values, JSON's own types.
        figures: By a short name.
        left_out: Figures that cannot be drawn, with the reason.
    """

    summary: Mapping[str, Any]
    figures: Mapping[str, Figure]
    left_out: Mapping[str, str]

    def to_html(self) -> str:
        """One page that works offline."""
        rows = [["", "value"], *([name, _text(value)] for name, value in self.summary.items())]
        notes = [f"Not drawn: {name}, since {why}." for name, why in self.left_out.items()]
        name = self.summary["study"]
        lead = "Trials, the model of them by fisherbo, and where it would look next."
        return page.render(f"Study {name}", lead, rows, self.figures, notes)

    def write_html(self, path: str | Path) -> None:
        """Write the page; the file is replaced in one step.

        Raises:
            StorageError: The file cannot be written.
        """
        page.write(self.to_html(), Path(path), "--output")

    def to_text(self) -> str:
        """The summary, a line a name."""
        width = max(map(len, self.summary))
        return "\n".join(f"{name:<{width}}  {_text(v)}" for name, v in self.summary.items())

    def to_markdown(self) -> str:
        """The summary as a note."""
        rows = [f"| {name} | {_text(value)} |" for name, value in self.summary.items()]
        return "\n".join(["| | |", "|---|---|", *rows])


def report(
    study: Study, sampler: FisherSampler | None = None, *, value: str = "objective value"
) -> StudyReport:
    """The summary and the figures of a study, whichever sampler made it.

    Args:
        study: The study.
        sampler: Whose model is shown; the study's own, or a new `FisherSampler`, if None.
        value: What the value is called, with its unit.

    Raises:
        InvalidInputError: The study has no complete trial.
        MissingExtraError: plotly is not installed.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise InvalidInputError(
            f"study {study.study_name!r} must have a complete trial, got none; run some first"
        )
    if sampler is None:
        own = study.sampler
        sampler = own if isinstance(own, FisherSampler) else FisherSampler(seed=0)
    figures, left_out = {}, {}
    for name, draw in _drawings(study, sampler, value).items():
        try:
            figures[name] = draw()
        except InvalidInputError as error:
            left_out[name] = str(error)
    return StudyReport(summarize(study, sampler), figures, left_out)


def summarize(study: Study, sampler: FisherSampler) -> dict[str, Any]:
    """Names and values that tell how a study stands, in JSON's own types."""
    trials = study.get_trials(deepcopy=False)
    counts = Counter(trial.state.name.lower() for trial in trials)
    summary: dict[str, Any] = {
        "study": study.study_name,
        "directions": [direction.name.lower() for direction in study.directions],
        "trials": dict(sorted(counts.items())),
    }
    if len(study.directions) > 1:
        return summary | {"pareto_front": [_of(trial) for trial in study.best_trials]}
    try:
        summary["best"] = _of(study.best_trial)
        summary["recommended"] = _of_recommendation(sampler.recommend(study))
    except ValueError as error:  # Optuna's, where no trial is feasible, or ours
        summary["recommended"] = str(error)
    return summary


def _of(trial: FrozenTrial) -> dict[str, Any]:
    values = list(trial.values)
    return {
        "number": trial.number,
        "value": values[0] if len(values) == 1 else values,
        "params": dict(trial.params),
    }


def _of_recommendation(found: Recommendation) -> dict[str, Any]:
    return {
        "number": found.number,
        "value": found.value,
        "interval": [found.low, found.high],
        "params": dict(found.params),
    }


def _drawings(study: Study, sampler: FisherSampler, value: str) -> dict[str, Draw]:
    """What to draw, by name, in the order of the page."""
    if len(study.directions) > 1:
        return _drawings_of_several(study, sampler)
    drawings: dict[str, Draw] = {
        "history": partial(plot_optimization_history, {study.study_name: study}, value=value),
        "posterior": partial(plot_posterior_slice, study, sampler, value=value),
        "contour": partial(plot_posterior_contour, study, sampler, value=value),
        "acquisition": partial(plot_acquisition_slice, study, sampler),
        "importance": partial(plot_param_importances, study, sampler, target_name=value),
        "calibration": partial(plot_calibration, study, sampler),
        "steps": partial(plot_kl_steps, study, sampler),
        "parallel": partial(plot_parallel_coordinate, study, value=value),
    }
    best = min(
        (t for t in study.get_trials(deepcopy=False) if "trace_loss" in t.user_attrs and t.values),
        key=lambda t: t.values[0] * (-1 if study.direction == StudyDirection.MAXIMIZE else 1),
        default=None,
    )
    return drawings if best is None else drawings | {"run": partial(plot_training_monitor, best)}


def _drawings_of_several(study: Study, sampler: FisherSampler) -> dict[str, Draw]:
    count = len(study.directions)
    drawings: dict[str, Draw] = {"front": partial(plot_pareto_front, study)}
    for j in range(count):
        name = f"objective {j}"
        drawings[f"posterior_{j}"] = partial(
            plot_posterior_slice, study, sampler, objective=j, value=name
        )
        drawings[f"importance_{j}"] = partial(
            plot_param_importances, study, sampler, target=partial(_value, j), target_name=name
        )
        drawings[f"calibration_{j}"] = partial(plot_calibration, study, sampler, objective=j)
    return drawings | {"acquisition": partial(plot_acquisition_slice, study, sampler)}


def _value(objective: int, trial: FrozenTrial) -> float:
    return float(trial.values[objective])


def _text(value: Any) -> str:
    """A value of the summary, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
