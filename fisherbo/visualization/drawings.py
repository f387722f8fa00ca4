"""The figures of a report: how each is drawn, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

from optuna.importance import BaseImportanceEvaluator, FanovaImportanceEvaluator
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial

from fisherbo.sampler.reports import has_reports
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.sampler.stopping import probabilities
from fisherbo.visualization.calibration import plot_calibration
from fisherbo.visualization.contour import plot_posterior_contour
from fisherbo.visualization.history import plot_optimization_history
from fisherbo.visualization.importance import plot_param_importances
from fisherbo.visualization.learning_curves import further_metrics, plot_learning_curves
from fisherbo.visualization.posterior import plot_acquisition_slice, plot_posterior_slice
from fisherbo.visualization.regret import plot_regret_bound
from fisherbo.visualization.steps import plot_kl_steps
from fisherbo.visualization.studies import (
    plot_parallel_coordinate,
    plot_pareto_front,
)
from fisherbo.visualization.style import COLOURS, GREY, graph_objects, lay_out, whole_numbers
from fisherbo.visualization.training import plot_training_monitor

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Draw = Callable[[], "Figure"]

_STATES = {
    "COMPLETE": COLOURS[0],
    "FAIL": COLOURS[1],
    "PRUNED": COLOURS[4],
    "RUNNING": COLOURS[2],
}
_MOST_METRICS = 8
EXPERT = ("calibration", "steps", "contour", "parallel", "timeline")
"""Figures that are folded on the page."""
MODEL = ("posterior", "contour", "acquisition", "importance", "calibration", "steps")
"""Figures of the model, which are not drawn before it chooses the trials."""
CAPTIONS = {
    "history": "Each dot is a trial, the line the best value until then; open dots do "
    "not meet their constraints. A line that has been flat for long says that further trials are "
    "unlikely to help much.",
    "regret": "How much better than the recommended trial any point may be, with the probability "
    "given. Stop when that no longer matters; the line is rough while the model knows little.",
    "posterior": "The line is what the model expects along one parameter while the others stay at "
    "the best point, the band where it is 95% sure that the noise-free value lies. Dark dots are "
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
    "front": "Each mark is a trial. Those of the Pareto front are filled: no other trial is at "
    "least as good as one of them in all objectives and better in one.",
    "intermediate": "What each trial reported while it ran. Lines that end early were pruned; "
    "where FisherPruner stopped them, the bar at the last step is where they would have ended, by "
    "its prediction.",
    "metric": "Another metric that trials reported while they ran. No decision depends on it.",
    "timeline": "A bar a trial. Long bars cost most; gaps are time in which nothing ran.",
    "run": "The loss of the best trial's run over its steps, and where its optimizer has them, the "
    "damping and the divergence of each step.",
}
"""How to read each figure."""


def drawings(study: Study, sampler: FisherSampler, value: str) -> dict[str, Draw]:
    """What to draw of a study, by name, in the order of the page."""
    if len(study.directions) > 1:
        return _drawings_of_several(study, sampler)
    history = partial(plot_optimization_history, study, target_name=value)
    drawn: dict[str, Draw] = {"history": history}
    if probabilities(study):
        drawn["regret"] = partial(plot_regret_bound, study)
    drawn |= {
        "posterior": partial(plot_posterior_slice, study, sampler, value=value),
        "contour": partial(plot_posterior_contour, study, sampler, value=value),
        "acquisition": partial(plot_acquisition_slice, study, sampler),
        "importance": partial(
            plot_param_importances, study, sampler=sampler, target_name=value, beside=_fanova()
        ),
        "calibration": partial(plot_calibration, study, sampler),
        "steps": partial(plot_kl_steps, study, sampler),
        "parallel": partial(plot_parallel_coordinate, study, target_name=value),
        "timeline": partial(_timeline, study),
    }
    if any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        drawn |= {"intermediate": partial(plot_learning_curves, study), **_further(study)}
    best = min(
        (t for t in study.get_trials(deepcopy=False) if "trace_loss" in t.user_attrs and t.values),
        key=lambda t: t.values[0] * (-1 if study.direction == StudyDirection.MAXIMIZE else 1),
        default=None,
    )
    return drawn if best is None else drawn | {"run": partial(plot_training_monitor, best)}


def _drawings_of_several(study: Study, sampler: FisherSampler) -> dict[str, Draw]:
    count = len(study.directions)
    drawn: dict[str, Draw] = {"front": partial(plot_pareto_front, study)}
    for j in range(count):
        name = f"objective {j}"
        drawn[f"posterior_{j}"] = partial(
            plot_posterior_slice, study, sampler, objective=j, value=name
        )
        drawn[f"importance_{j}"] = partial(
            plot_param_importances, study, sampler=sampler, target=partial(_value, j),
            target_name=name, beside=_fanova(),
        )  # fmt: skip
        drawn[f"calibration_{j}"] = partial(plot_calibration, study, sampler, objective=j)
    if any(has_reports(t, count) for t in study.get_trials(deepcopy=False)):
        for j in range(count):
            drawn[f"intermediate_{j}"] = partial(plot_learning_curves, study, objective=j)
        drawn |= _further(study)
    return drawn | {"acquisition": partial(plot_acquisition_slice, study, sampler)}


def _further(study: Study) -> dict[str, Draw]:
    """Curves of metrics that are no objective's."""
    names = further_metrics(study)[:_MOST_METRICS]
    drawn = (partial(plot_learning_curves, study, metric=name) for name in names)
    return {f"metric_{k}": draw for k, draw in enumerate(drawn)}


def _fanova() -> dict[str, BaseImportanceEvaluator]:
    """Optuna's evaluator, where what it needs is installed."""
    if find_spec("sklearn") is None:
        return {}
    return {"fANOVA": FanovaImportanceEvaluator(seed=0)}


def _timeline(study: Study) -> Figure:
    graph_objects()
    from optuna.visualization import plot_timeline

    figure = plot_timeline(study)
    for trace in figure.data:
        trace.marker.color = _STATES.get(trace.name, GREY)
    lay_out(figure, "When the trials ran", "time")
    numbers = [trial.number for trial in study.get_trials(deepcopy=False)]
    whole_numbers(figure.layout.yaxis, numbers)
    figure.update_yaxes(title="trial number")
    return figure


def _value(objective: int, trial: FrozenTrial) -> float:
    return float(trial.values[objective])
