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

from fisherbo.space import Array, Integers
from fisherbo.surrogate.fit import Hyper
from fisherbo.surrogate.rotation import from_reflectors, reflectors, rotated

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
    return _hyper(*_numbers(hyper))


def encode(fit: Fit, names: Sequence[str]) -> str:
    """Text of at most 2,000 characters for up to 300 parameters (32-bit logarithms).

    Args:
        fit: The fit.
        names: Names of the parameters, in the order of the lengthscales.
    """
    numbers, index = _numbers(fit.hyper)
    text = base64.b64encode(numbers.tobytes()).decode()
    rotated = [index.tolist()] if len(index) else []
    return json.dumps([fit.count, text, _checksum(names), *rotated])


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
    count, code, *rest = json.loads(text)
    if rest[:1] != [_checksum(names)]:  # of other parameters, or written by an early version
        return None
    index = np.array(rest[1] if len(rest) > 1 else [], dtype=np.int64)
    return Fit(count, _hyper(np.frombuffer(base64.b64decode(code), dtype="<f4"), index))


def _numbers(hyper: Hyper) -> tuple[Array, Integers]:
    """``θ`` and Householder vectors of the rotation, in 32 bits; the coordinates it rotates."""
    index = rotated(hyper.rotation)
    parts = [hyper.to_vector()]
    parts += [] if hyper.rotation is None else [reflectors(hyper.rotation, index)]
    return np.concatenate(parts).astype("<f4"), index


def _hyper(numbers: Array, index: Integers) -> Hyper:
    size = len(numbers) - len(index) * (len(index) - 1) // 2
    theta, vectors = numbers[:size], numbers[size:].astype(np.float64)
    return Hyper.from_vector(theta, from_reflectors(vectors, index, size - 2))


def _checksum(names: Sequence[str]) -> int:
    return zlib.crc32(json.dumps(list(names)).encode())
