"""The ready search space of an estimator, as the dicts that a search takes.

A dict cannot say that a parameter depends on another's value, but a list of dicts can: each value
of a hyperparameter that others depend on has a dict of its own. The library's default comes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any

from sklearn.pipeline import Pipeline

from fisherbo.estimators.axes import SearchAxis
from fisherbo.estimators.spaces import BRANCH, Branch, SearchSpace, values
from fisherbo.tuning.model_spaces import ModelSpace
from fisherbo.tuning.suggestions import default_point, exists, space_of

DEFAULT = "default"


def ready_space(estimator: Any) -> list[dict[str, Any]]:
    """Of the estimator, or of a pipeline's last step.

    Raises:
        InvalidInputError: the model is not known.
    """
    prefix, model = _last_step(estimator)
    return [
        {prefix + name: _with_prefix(prefix, value) for name, value in branch.items()}
        for branch in _branches(space_of(model))
    ]


def ready_start(estimator: Any, space: SearchSpace) -> dict[str, Any]:
    """The library's defaults, as a trial of the ready space holds them; where it has none, less."""
    prefix, model = _last_step(estimator)
    defaults = default_point(model, prefix=prefix)
    first = space.branches[0]
    branch = {BRANCH: first.label} if len(space.branches) > 1 else {}
    return {**branch, **{name: v for name, v in defaults.items() if name in _labels(first)}}


def _labels(branch: Branch) -> set[str]:
    return {axis.label for axis in branch.axes.values()}


def _last_step(estimator: Any) -> tuple[str, Any]:
    """The model with the prefix of its parameters."""
    prefix = ""
    while isinstance(estimator, Pipeline):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator


def _with_prefix(prefix: str, value: Any) -> Any:
    if not isinstance(value, SearchAxis):
        return value
    return SearchAxis(prefix + value.label, value.distribution, value.decode)


def _branches(space: ModelSpace) -> Iterator[dict[str, Any]]:
    """One dict for all values of the switches."""
    switches = {name: _values(space, name) for name in _switches(space)}
    for point in product(*switches.values()):
        yield _branch(space, dict(zip(switches, point, strict=True)))


def _switches(space: ModelSpace) -> list[str]:
    """What others depend on: parents of conditions, and of forms all parents but the last."""
    depended = {each.when.parent for each in space.hyperparameters.values() if each.when}
    depended |= {parent for form in space.forms.values() for parent in form.parents[:-1]}
    return [name for name in space.hyperparameters if name in depended]


def _values(space: ModelSpace, name: str) -> list[Any]:
    """All values, the default first."""
    hyperparameter = space.hyperparameters[name]
    return sorted(values(hyperparameter.distribution), key=lambda v: v != hyperparameter.default)


def _branch(space: ModelSpace, switches: Mapping[str, Any]) -> dict[str, Any]:
    branch: dict[str, Any] = {name: [value] for name, value in space.constants.items()}
    made = {form.parents[-1]: (name, form) for name, form in space.forms.items()}
    inner = {parent for form in space.forms.values() for parent in form.parents[:-1]}
    for name, each in space.hyperparameters.items():
        if name in switches:
            if name not in inner:
                branch[name] = [switches[name]]
        elif name in made:
            argument, form = made[name]
            held = [switches[parent] for parent in form.parents[:-1]]
            branch[argument] = SearchAxis(name, each.distribution, partial(form.compute, *held))
        elif exists(each, switches):
            branch[name] = each.distribution
    return branch
