"""All there is to see of a study: a summary, and every figure that can be drawn of it."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.next_trial import NextTrial, next_trial, rows, shown
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
from fisherbo.visualization.style import graph_objects, lay_out
from fisherbo.visualization.training import plot_training_monitor
from fisherbo.visualization.trial_table import trial_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Draw = Callable[[], "Figure"]

EXPERT = ("calibration", "steps", "contour", "parallel", "timeline")
"""Figures that are folded on the page."""
MODEL = ("posterior", "contour", "acquisition", "importance", "calibration", "steps")
"""Figures of the model, which are not drawn before it chooses the trials."""
CAPTIONS = {
    "history": "Each dot is a trial, the line the best value until then. A line that has been flat "
    "for long says that further trials are unlikely to help much.",
    "posterior": "The line is what the model expects along one parameter while the others stay at "
    "the best point, the band where it is 95 % sure that the noise-free value lies. Dark dots are "
    "trials near that slice; pale ones are far from it in other parameters and may lie off the "
    "band.",
    "acquisition": "The next trial is where the curve is highest: the logarithm of the expected "
    "improvement. Gaps are places that are ruled out, such as those beside points already known. "
    "Each slice goes through the next trial, the star.",
    "importance": "Longer bars matter more. The inverse lengthscale tells how fast the objective "
    "changes with a parameter, fANOVA how much of its variance over the whole space comes from "
    "that parameter alone; they differ where a parameter matters in a small part of the space or "
    "together with others.",
    "calibration": "Each trial is predicted from all others. Dots should lie along the diagonal, "
    "and the coverage should follow it; below it, the model is too sure of itself.",
    "steps": "How much the model's prediction at a trial differed from that at the best point "
    "before it, as a Kullback-Leibler divergence. Large values are exploration, small ones "
    "refinement.",
    "contour": "The median of the model over two parameters, the others at the best point. "
    "Ellipses are steps of equal information in the Fisher metric of the posterior; paths are "
    "ascents to the next trial by the natural and by the Euclidean gradient.",
    "parallel": "Each line is a trial, coloured by its value. Good trials that run close together "
    "on an axis agree on that parameter.",
    "front": "A trial of the Pareto front is one than which no other is better in all objectives.",
    "intermediate": "What each trial reported while it ran. Lines that end early were pruned.",
    "timeline": "A bar a trial. Long bars cost most; gaps are time in which nothing ran.",
    "run": "The loss of the best trial's run over its steps, and where its optimizer has them, the "
    "damping and the divergence of each step.",
}
"""How to read each figure."""


@dataclass(frozen=True)
class StudyReport:
    """What there is to see of a study.

    Attributes:
        summary: Names and values, JSON's own types.
        figures: By a short name.
        left_out: Figures that cannot be drawn, with the reason.
        trials: A line of names, then one a trial, as texts.
        next: The next trial.
        value: What the value is called, with its unit.
    """

    summary: Mapping[str, Any]
    figures: Mapping[str, Figure]
    left_out: Mapping[str, str]
    trials: Sequence[Sequence[str]]
    next: NextTrial
    value: str = "objective value"

    def to_html(self) -> str:
        """One page that works offline."""
        notes = [f"Not drawn: {name}, since {why}." for name, why in self.left_out.items()]
        return page.render(
            f"Study {self.summary['study']}",
            self._lead(),
            _results(self.summary),
            self.figures,
            notes,
            captions={name: CAPTIONS[name.rstrip("_0123456789")] for name in self.figures},
            folded=[name for name in self.figures if name.startswith(EXPERT)],
            before=self._next(),
            after=_trials(self.trials),
        )

    def _lead(self) -> str:
        """What was tuned, and what to do next."""
        counts = [
            f"{count} {'failed' if state == 'fail' else state}"
            for state, count in self.summary["trials"].items()
        ]
        goal = " and ".join(self.summary["directions"])
        lead = f"Trials to {goal} the {self.value}: {', '.join(counts)}. "
        if "pareto_front" in self.summary:
            return lead + "Choose one of the trials of the Pareto front by what matters to you."
        if isinstance(self.summary["recommended"], str):
            return lead + "No trial can be recommended yet; run more."
        number = self.summary["recommended"]["number"]
        return lead + (
            f"Use the parameters of trial {number}, which the model expects to be the best; the "
            "best single value may be luck. Run more trials while the probability of an "
            "improvement below is worth their cost."
        )

    def _next(self) -> str:
        names = [self.value]
        if len(self.summary["directions"]) > 1:
            names = [f"objective {j}" for j in range(len(self.summary["directions"]))]
        table = page.table_of(rows(self.next, names), name="next") if self.next.params else ""
        reason = html.escape(self.next.reason)
        return (
            '<section class="card" aria-labelledby="next-title"><h2 id="next-title">Next trial</h2>'
            f"{table}<p>{reason}</p></section>"
        )

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
    coming = _next_trial(study, sampler)
    for name, draw in _drawings(study, sampler, value).items():
        if not coming.expected and name.startswith(MODEL):
            left_out[name] = "the model is not used before the initial design is complete"
            continue
        try:
            figures[name] = draw()
        except InvalidInputError as error:
            left_out[name] = str(error)
    summary = summarize(study, sampler)
    return StudyReport(summary, figures, left_out, trial_table(study), coming, value)


def _next_trial(study: Study, sampler: FisherSampler) -> NextTrial:
    try:
        return next_trial(study, sampler)
    except InvalidInputError as error:
        return NextTrial({}, (), f"No model can say where it goes: {error}.")


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
        "history": partial(plot_optimization_history, study, target_name=value),
        "posterior": partial(plot_posterior_slice, study, sampler, value=value),
        "contour": partial(plot_posterior_contour, study, sampler, value=value),
        "acquisition": partial(plot_acquisition_slice, study, sampler),
        "importance": partial(
            plot_param_importances, study, sampler, target_name=value, beside=_fanova()
        ),
        "calibration": partial(plot_calibration, study, sampler),
        "steps": partial(plot_kl_steps, study, sampler),
        "parallel": partial(plot_parallel_coordinate, study, target_name=value),
        "timeline": partial(_timeline, study),
    }
    if any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        drawings["intermediate"] = partial(_intermediate, study)
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


def _fanova() -> dict[str, BaseImportanceEvaluator]:
    """Optuna's evaluator, where what it needs is installed."""
    if find_spec("sklearn") is None:
        return {}
    return {"fANOVA": FanovaImportanceEvaluator(seed=0)}


def _intermediate(study: Study) -> Figure:
    graph_objects()
    from optuna.visualization import plot_intermediate_values

    figure = plot_intermediate_values(study)
    lay_out(figure, "Intermediate values of the trials", "step")
    return figure


def _timeline(study: Study) -> Figure:
    graph_objects()
    from optuna.visualization import plot_timeline

    figure = plot_timeline(study)
    lay_out(figure, "When the trials ran")
    return figure


def _results(summary: Mapping[str, Any]) -> list[list[str]]:
    """The best and the recommended trial beside each other; of several objectives the front."""
    found = {name: summary[name] for name in ("best", "recommended") if name in summary}
    found = {name: trial for name, trial in found.items() if isinstance(trial, dict)}
    if "pareto_front" in summary:
        found = {f"trial {trial['number']}": trial for trial in summary["pareto_front"]}
        return _front(found)
    if not found:
        return [["", "value"], *([name, _text(value)] for name, value in summary.items())]
    params = dict.fromkeys(name for trial in found.values() for name in trial["params"])
    lines = [["", *found], ["trial", *(str(trial["number"]) for trial in found.values())]]
    lines.append(["value", *(shown(trial["value"]) for trial in found.values())])
    if "recommended" in found:
        ends = [shown(end) for end in found["recommended"]["interval"]]
        lines.append(["95 % interval", *([""] * (len(found) - 1)), " to ".join(ends)])
    for name in params:
        lines.append([name, *(shown(trial["params"].get(name, "")) for trial in found.values())])
    return lines


def _front(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A line a trial of the Pareto front: its values, and its parameters."""
    trials = list(found.values())
    params = dict.fromkeys(name for trial in trials for name in trial["params"])
    count = len(trials[0]["value"]) if trials else 0
    lines = [["Pareto front", *(f"objective {j}" for j in range(count)), *params]]
    for name, trial in found.items():
        chosen = [shown(trial["params"].get(parameter, "")) for parameter in params]
        lines.append([name, *map(shown, trial["value"]), *chosen])
    return lines


def _trials(lines: Sequence[Sequence[str]]) -> str:
    table = page.table_of(lines, name="trials", sortable=True)
    button = '<button type="button" data-csv="trials">Download as CSV</button>'
    return (
        '<section aria-labelledby="trials-title"><h2 id="trials-title">Trials</h2>'
        f'<p>Choose a column\'s name to sort by it. {button}</p><div class="scroll">{table}</div>'
        "</section>"
    )


def _value(objective: int, trial: FrozenTrial) -> float:
    return float(trial.values[objective])


def _text(value: Any) -> str:
    """A value of the summary, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
