"""Hyperparameters of common models, suggested from published ranges.

The ranges are data, in `fisherbo.tuning.model_spaces`. No library is imported for its space.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.trial import BaseTrial

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.model_spaces import (
    BY_NAME,
    SPACES,
    ComputedArgument,
    Hyperparameter,
    ModelSpace,
)
from fisherbo.tuning.names import suggestion
from fisherbo.tuning.search_spaces import suggest_value


def suggest(
    trial: BaseTrial,
    model: Any,
    *,
    prefix: str = "",
    exclude: Collection[str] = (),
    fixed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Keyword arguments for a model's constructor, suggested from published ranges.

    Ranges and their sources are listed in `fisherbo.tuning.model_spaces`. Scales are logarithmic
    where they should be, and a hyperparameter that has no effect, such as the degree of a kernel
    that is not polynomial, is not suggested.

    Args:
        trial: the trial of an Optuna study.
        model: a name such as "xgboost", "SVC" or "torch-adamw", or a class or an instance of one
            of the known models; of an instance only the class counts.
        prefix: what the names of the trial's parameters begin with, so that one trial can hold
            several models.
        exclude: hyperparameters that are left to the library's default.
        fixed: keyword arguments that are given instead of suggested; any others of the constructor
            are passed on too.

    Raises:
        InvalidInputError: the model is not known, or `exclude` names what it does not have.

    Example:
        >>> import optuna
        >>> trial = optuna.trial.FixedTrial({"C": 10.0, "kernel": "linear"})
        >>> suggest(trial, "SVC", fixed={"max_iter": 1000})
        {'C': 10.0, 'kernel': 'linear', 'max_iter': 1000}
    """
    space = space_of(model)
    fixed = dict(fixed or {})
    values = settled(space, exclude, fixed)
    found: dict[str, Any] = {}
    for name, hyperparameter in free(space, exclude, fixed).items():
        if exists(hyperparameter, values):
            found[name] = suggest_value(trial, prefix + name, hyperparameter.distribution)
            values[name] = found[name]
    return _arguments(space, values, found, exclude, fixed)


def search_space(
    model: Any,
    *,
    prefix: str = "",
    exclude: Collection[str] = (),
    fixed: Mapping[str, Any] | None = None,
) -> dict[str, BaseDistribution]:
    """Optuna distributions of what `suggest` suggests, by the names of the trial's parameters.

    Args:
        model: as in `suggest`.
        prefix: as in `suggest`.
        exclude: as in `suggest`.
        fixed: as in `suggest`.

    Raises:
        InvalidInputError: the model is not known, or a hyperparameter exists only for some values
            of another, which a dict of distributions cannot express.

    Example:
        >>> search_space("Lasso")
        {'alpha': FloatDistribution(high=1000.0, log=True, low=0.0001, step=None)}
    """
    space = space_of(model)
    fixed = fixed or {}
    values = settled(space, exclude, fixed)
    found = {}
    for name, hyperparameter in free(space, exclude, fixed).items():
        when = hyperparameter.when
        if when is not None and when.parent not in values:
            raise InvalidInputError(
                f"the space of {space.names[0]} has conditions: {name!r} exists only where "
                f"{when.parent!r} is one of {when.values}; use fisherbo.suggest, or give "
                f"fixed={{{when.parent!r}: ...}} or exclude=[{when.parent!r}]"
            )
        if exists(hyperparameter, values):
            found[prefix + name] = hyperparameter.distribution
    return found


def default_point(model: Any, *, prefix: str = "") -> dict[str, Any]:
    """The library's defaults as a point of the space, for ``study.enqueue_trial``.

    A default outside the range is left out; the sampler then chooses the value.

    Args:
        model: as in `suggest`.
        prefix: as in `suggest`.

    Raises:
        InvalidInputError: the model is not known.

    Example:
        >>> default_point("KNeighborsClassifier")
        {'n_neighbors': 5, 'weights': 'uniform', 'p': 2}
    """
    hyperparameters = space_of(model).hyperparameters
    defaults = {name: each.default for name, each in hyperparameters.items()}
    return {
        prefix + name: defaults[name]
        for name, each in hyperparameters.items()
        if each.default is not None and exists(each, defaults)
    }


def space_of(model: Any) -> ModelSpace:
    """The space of a name, a class or an instance.

    Raises:
        InvalidInputError: there is none.
    """
    if isinstance(model, str):
        if model in BY_NAME:
            return BY_NAME[model]
        raise _unknown(model)
    kind = model if isinstance(model, type) else type(model)
    for base in kind.__mro__:
        space = BY_NAME.get(base.__name__)
        if space is not None and base.__module__.split(".")[0] == space.package:
            return space
    raise _unknown(kind.__name__)


def _unknown(name: str) -> InvalidInputError:
    known = ", ".join(name for space in SPACES for name in space.names)
    return InvalidInputError(
        f"no search space for {name!r}{suggestion(name, BY_NAME)}; known are {known}"
    )


def settled(
    space: ModelSpace, exclude: Collection[str], fixed: Mapping[str, Any]
) -> dict[str, Any]:
    """Values that conditions see before anything is suggested: defaults of what is excluded."""
    held = {name: h.default for name, h in space.hyperparameters.items() if name in exclude}
    return {**held, **{name: v for name, v in fixed.items() if name in space.hyperparameters}}


def free(
    space: ModelSpace, exclude: Collection[str], fixed: Mapping[str, Any]
) -> dict[str, Hyperparameter]:
    """Hyperparameters that are neither excluded nor fixed, by name or by what they make.

    Raises:
        InvalidInputError: a name that is excluded is not known.
    """
    known = {**space.hyperparameters, **space.constants, **space.forms}
    for name in exclude:
        if name not in known:
            raise InvalidInputError(
                f"exclude names {name!r}, which {space.names[0]} does not have"
                f"{suggestion(name, known)}; known are {', '.join(known)}"
            )
    held = {*exclude, *fixed}
    held |= {p for name, form in space.forms.items() if name in held for p in form.parents}
    return {name: each for name, each in space.hyperparameters.items() if name not in held}


def exists(hyperparameter: Hyperparameter, values: Mapping[str, Any]) -> bool:
    """Whether its condition holds."""
    when = hyperparameter.when
    return when is None or values[when.parent] in when.values


def _arguments(
    space: ModelSpace,
    values: Mapping[str, Any],
    found: Mapping[str, Any],
    exclude: Collection[str],
    fixed: Mapping[str, Any],
) -> dict[str, Any]:
    """What is suggested and what is given, as the constructor takes them."""
    parents = {parent for form in space.forms.values() for parent in form.parents}
    without_effect = {
        name for name, each in space.hyperparameters.items() if not exists(each, values)
    }
    given = {name: v for name, v in fixed.items() if name not in parents | without_effect}
    made = {
        name: form.compute(*(values[parent] for parent in form.parents))
        for name, form in space.forms.items()
        if _is_made(name, form, values, exclude)
    }
    plain = {name: v for name, v in found.items() if name not in parents}
    constants = {name: v for name, v in space.constants.items() if name not in exclude}
    return {**constants, **plain, **made, **given}


def _is_made(
    name: str, form: ComputedArgument, values: Mapping[str, Any], exclude: Collection[str]
) -> bool:
    return name not in exclude and all(values.get(parent) is not None for parent in form.parents)
