"""Fitted hyperparameters, kept with the trial that they were fitted for.

The study's storage is the sampler's only memory, so that a resumed study, another process or
another thread continues exactly where the last trial ended. Nothing else writes hyperparameters.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from fisherbo.gp.model import Fit
from fisherbo.gp.rotation import packed, unpacked
from fisherbo.sampler.optuna_private import (
    set_study_system_attr,
    set_system_attr,
    study_system_attrs,
)

KEY = "fisherbo:fit"
"""Trial attribute of the fit of a single objective, and beginning of the other models' names."""
REGRET = "fisherbo:regret_fit"
"""Beginning of the study attributes of the fits of the models of the remaining regret."""


def attribute(label: str) -> str:
    """Trial attribute in which the fit of a model is kept."""
    return f"{KEY}:{label}" if label else KEY


def write(study: Study, trial: FrozenTrial, names: Sequence[str], fits: Mapping[str, Fit]) -> None:
    """Keep fits with a trial.

    Args:
        study: The trial's study.
        trial: The trial.
        names: Names of the parameters, in the order of the lengthscales.
        fits: By the models' labels.
    """
    for label, fit in fits.items():
        set_system_attr(study, trial, attribute(label), encode(fit, names))


def latest(trials: Sequence[FrozenTrial], names: Sequence[str], label: str = "") -> Fit | None:
    """The last fit that a trial holds for a model of these very parameters."""
    key = attribute(label)
    for trial in reversed(trials):
        text = trial.system_attrs.get(key)
        if text is not None:
            fit = decode(text, names)
            if fit is not None:
                return fit
    return None


def write_for_regret(study: Study, names: Sequence[str], fits: Mapping[str, Fit]) -> None:
    """Keep fits of the models of the remaining regret, by their labels, with the study."""
    for label, fit in fits.items():
        set_study_system_attr(study, f"{REGRET}:{label}", encode(fit, names))


def latest_for_regret(study: Study, names: Sequence[str]) -> dict[str, Fit]:
    """The last fits of the models of the remaining regret, by their labels."""
    start = f"{REGRET}:"
    found = {
        key.removeprefix(start): decode(text, names)
        for key, text in study_system_attrs(study).items()
        if key.startswith(start)
    }
    return {label: fit for label, fit in found.items() if fit is not None}


def encode(fit: Fit, names: Sequence[str]) -> str:
    """Text of at most 2,000 characters for up to 300 parameters (32-bit logarithms).

    Args:
        fit: The fit.
        names: Names of the parameters, in the order of the lengthscales.
    """
    numbers, index = packed(fit.hyper)
    text = base64.b64encode(numbers.tobytes()).decode()
    rotated = [index.tolist()] if len(index) else []
    return json.dumps([fit.count, text, _checksum(names), *rotated])


def decode(text: str, names: Sequence[str]) -> Fit | None:
    """The fit that a text encodes; None if it is one of other parameters."""
    count, code, *rest = json.loads(text)
    if rest[:1] != [_checksum(names)]:  # of other parameters, or written by an early version
        return None
    index = np.array(rest[1] if len(rest) > 1 else [], dtype=np.int64)
    return Fit(count, unpacked(np.frombuffer(base64.b64decode(code), dtype="<f4"), index))


def _checksum(names: Sequence[str]) -> int:
    return zlib.crc32(json.dumps(list(names)).encode())
