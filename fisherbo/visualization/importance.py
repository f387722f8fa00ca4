"""How much each parameter matters, by the lengthscales of the model.

A parameter of a short lengthscale changes the objective fast: with automatic relevance
determination the inverse lengthscale is its relevance (Rasmussen & Williams 2006, §5.1). Lengths
are in widths of the search space, so that importance is that of the whole range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import optuna
from optuna.importance import BaseImportanceEvaluator
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.visualization.style import colours, graph_objects, lay_out

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class LengthscaleImportanceEvaluator(BaseImportanceEvaluator):
    """Importance by inverse lengthscales of FisherSampler's model, for Optuna's own functions.

    Args:
        sampler: Whose model is asked; a new `FisherSampler` if None.

    Example:
        >>> import optuna
        >>> from fisherbo.visualization import LengthscaleImportanceEvaluator
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        >>> f = lambda t: t.suggest_float("x", 0, 1) ** 2 + 0 * t.suggest_float("y", 0, 1)
        >>> study.optimize(f, n_trials=40)
        >>> found = optuna.importance.get_param_importances(
        ...     study, evaluator=LengthscaleImportanceEvaluator()
        ... )
        >>> found["x"] > 2 * found["y"]
        True
    """

    def __init__(self, sampler: FisherSampler | None = None) -> None:
        self._sampler = FisherSampler(seed=0) if sampler is None else sampler

    def evaluate(
        self,
        study: Study,
        params: list[str] | None = None,
        *,
        target: Callable[[FrozenTrial], float] | None = None,
    ) -> dict[str, float]:
        """Importance of each parameter that varies, largest first, of sum 1.

        Args:
            study: A study with finished trials.
            params: Parameters to assess; all if None.
            target: What to assess them for; the objective if None.

        Raises:
            InvalidInputError: No trial has a value, no such parameter varies, or the study has
                several objectives and there is no target.
        """
        if target is None and len(study.directions) > 1:
            raise InvalidInputError(
                f"target must be given for a study with {len(study.directions)} objectives, got "
                "None; pass for example target=lambda trial: trial.values[0]"
            )
        asked = study if target is None else _with_values(study, target)
        seen = self._sampler.inspect(asked)
        inverse = dict(zip(seen.search_space, (1 / seen.lengthscale()).tolist(), strict=True))
        names = list(inverse) if params is None else params
        unknown = sorted(set(names) - inverse.keys())
        if unknown:
            raise InvalidInputError(
                f"params must vary in the study, got {unknown}; those that do: {sorted(inverse)}"
            )
        total = sum(inverse[name] for name in names)
        ordered = sorted(names, key=lambda name: -inverse[name])
        return {name: inverse[name] / total for name in ordered}


def plot_param_importances(
    study: Study,
    evaluator: BaseImportanceEvaluator | None = None,
    params: list[str] | None = None,
    *,
    target: Callable[[FrozenTrial], float] | None = None,
    target_name: str = "objective value",
    sampler: FisherSampler | None = None,
    beside: Mapping[str, BaseImportanceEvaluator] | None = None,
) -> Figure:
    """Figure of the parameters' importance, by default by inverse lengthscale.

    Args:
        study: A study of any sampler.
        evaluator: Another evaluator, as Optuna has them.
        params: Parameters to assess; all if None.
        target: What to assess the parameters for; the objective if None.
        target_name: What the target is called.
        sampler: Whose model is asked without an evaluator; a new `FisherSampler` if None.
        beside: Further evaluators by name, whose bars are drawn beside.

    Raises:
        InvalidInputError: As `LengthscaleImportanceEvaluator.evaluate`.
        MissingExtraError: plotly is not installed.
    """
    go = graph_objects()
    first = LengthscaleImportanceEvaluator(sampler) if evaluator is None else evaluator
    name = "inverse lengthscale" if evaluator is None else type(evaluator).__name__
    evaluators = {name: first, **({} if beside is None else beside)}
    found = {name: one.evaluate(study, params, target=target) for name, one in evaluators.items()}
    names = list(reversed(found[name]))
    figure = go.Figure()
    for colour, (key, shares) in zip(colours(len(found)), found.items(), strict=True):
        values = [shares.get(parameter, 0.0) for parameter in names]
        figure.add_bar(
            x=values, y=names, orientation="h", marker={"color": colour}, name=key,
            text=[f"{value:.2f}" for value in values], showlegend=len(found) > 1, textangle=0,
        )  # fmt: skip
    title = f"Importance for {target_name}, by {' and '.join(found)}"
    lay_out(figure, title, "share", height=160 + 32 * len(names) * len(found))
    figure.update_layout(legend={"orientation": "h", "y": -0.3})
    figure.update_yaxes(title="parameter", type="category")
    return figure


def _with_values(study: Study, target: Callable[[FrozenTrial], float]) -> Study:
    """A study in memory whose values are the target's, of the complete trials."""
    storage = optuna.storages.InMemoryStorage()
    identity = storage.create_new_study([StudyDirection.MINIMIZE], study.study_name)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        value = float(target(trial))
        if math.isfinite(value):
            made = create_trial(params=trial.params, distributions=trial.distributions, value=value)
            storage.create_new_trial(identity, template_trial=made)
    return Study(study.study_name, storage)
