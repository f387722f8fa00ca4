"""The fitted model of a study's learning curves, kept with the trial that it was fitted for.

As `fit_store` does for the models of values: decisions follow from the study's storage alone,
whichever process takes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from fisherbo.gp.curve_model import CurveFit
from fisherbo.gp.curve_scale import CurveScale
from fisherbo.gp.model import Fit
from fisherbo.sampler import fit_store
from fisherbo.sampler.learning_curves import CurveAxis
from fisherbo.sampler.optuna_private import set_system_attr

KEY = "fisherbo:curves"
"""Trial attribute of a fit; of several objectives, their number follows after a colon."""


@dataclass(frozen=True, eq=False)
class StudyCurves:
    """What was fitted to a study's learning curves, and what it is fitted on.

    Attributes:
        axis: What reports mean.
        scale: On which curves are modelled.
        fit: Hyperparameters.
    """

    axis: CurveAxis
    scale: CurveScale
    fit: CurveFit


def key_of(objective: int | None) -> str:
    """Trial attribute of a fit to one objective's curves; None: there is no other objective."""
    return KEY if objective is None else f"{KEY}:{objective}"


def write(
    study: Study,
    trial: FrozenTrial | None,
    names: Sequence[str],
    found: StudyCurves,
    key: str = KEY,
) -> StudyCurves:
    """Keep a fit with a trial; what is read of it, which is rounded, is returned.

    Args:
        study: The trial's study.
        trial: The trial; None: the fit is kept with none.
        names: Names of the parameters, in the order of the lengthscales.
        found: What was fitted.
        key: Of the attribute.
    """
    text = encode(found, names)
    if trial is not None:
        set_system_attr(study, trial, key, text)
    read = decode(text, tuple(names))
    assert read is not None  # it is of these very parameters
    return read


def latest(
    trials: Sequence[FrozenTrial], names: Sequence[str], key: str = KEY
) -> StudyCurves | None:
    """The fit of the most curves that a trial holds for these very parameters.

    Args:
        trials: In order of their numbers.
        names: Names of the parameters, in the order of the lengthscales.
        key: Of the attribute.
    """
    texts = (t.system_attrs[key] for t in trials if key in t.system_attrs)
    found = (decode(text, tuple(names)) for text in texts)
    return max((f for f in found if f is not None), key=lambda f: f.fit.count, default=None)


def encode(found: StudyCurves, names: Sequence[str]) -> str:
    """Text of a fit."""
    ends = fit_store.encode(Fit(found.fit.count, found.fit.hyper), names)
    psi = [float(f"{v:.7g}") for v in found.fit.psi]
    return json.dumps([ends, psi, astuple(found.axis), astuple(found.scale)])


@lru_cache(maxsize=256)
def decode(text: str, names: tuple[str, ...]) -> StudyCurves | None:
    """The fit that a text encodes, the same object each time; None if it is of other parameters."""
    ends, psi, axis, scale = json.loads(text)
    fit = fit_store.decode(ends, names)
    if fit is None:
        return None
    curves = CurveFit(fit.count, np.array(psi), fit.hyper)
    return StudyCurves(CurveAxis(*axis), CurveScale(*scale), curves)
