"""What the sampler remembers between trials: hyperparameters, kept with the trial that fitted them.

The study's storage is the only memory, so that a resumed study, another process or another thread
goes on exactly where the last trial ended.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial

from fisherbo.gp.fit import Hyper

KEY = "fisherbo:fit"
FAILED = "fisherbo:failed"
"""Attribute of a trial that failed by itself; a killed worker's has none and teaches nothing."""


@dataclass(frozen=True)
class Fit:
    """Hyperparameters and the number of observations that they were fitted to.

    Attributes:
        count: Number of observations.
        hyper: The hyperparameters.
    """

    count: int
    hyper: Hyper


def rounded(hyper: Hyper) -> Hyper:
    """Hyperparameters as they are after `encode` and `latest`."""
    return Hyper.from_vector(hyper.to_vector().astype("<f4"))


def encode(fit: Fit, names: Sequence[str]) -> str:
    """Text of at most 2,000 characters for up to 300 parameters (32-bit logarithms).

    Args:
        fit: The fit.
        names: Names of the parameters, in the order of the lengthscales.
    """
    theta = fit.hyper.to_vector().astype("<f4").tobytes()
    return json.dumps([fit.count, base64.b64encode(theta).decode(), _checksum(names)])


def latest(trials: Sequence[FrozenTrial], names: Sequence[str], key: str = KEY) -> Fit | None:
    """The last fit that a trial holds for these very parameters, under an attribute."""
    for trial in reversed(trials):
        text = trial.system_attrs.get(key)
        if text is not None:
            fit = _decode(text, names)
            if fit is not None:
                return fit
    return None


def _decode(text: str, names: Sequence[str]) -> Fit | None:
    count, code, *checksum = json.loads(text)
    if checksum != [_checksum(names)]:  # of other parameters, or written by an early version
        return None
    return Fit(count, Hyper.from_vector(np.frombuffer(base64.b64decode(code), dtype="<f4")))


def _checksum(names: Sequence[str]) -> int:
    return zlib.crc32(json.dumps(list(names)).encode())
