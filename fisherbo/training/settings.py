"""The rules that the settings of an optimizer must keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from fisherbo.errors import InvalidInputError

_RULES: dict[str, tuple[str, Callable[[float], bool], str]] = {
    "lr": (">= 0", lambda v: v >= 0, "typical values are 1e-2 to 0.5"),
    "damping": ("> 0", lambda v: v > 0, "typical values are 1e-4 to 1e-1"),
    "momentum": ("in [0, 1)", lambda v: 0 <= v < 1, "typical values are 0 to 0.95"),
    "weight_decay": (">= 0", lambda v: v >= 0, "typical values are 0 to 1e-3"),
    "second_moment_decay": ("in [0, 1)", lambda v: 0 <= v < 1, "typical values are 0.9 to 0.999"),
    "kl_clip": ("> 0, None or 'auto'", lambda v: v > 0, "typical values are 1e-3 to 1"),
    "factor_decay": ("in [0, 1)", lambda v: 0 <= v < 1, "the usual value is 0.9"),
    "factor_interval": ("a whole number >= 1", lambda v: v >= 1 and v == int(v), "5 is usual"),
    "inverse_interval": (
        "a whole number >= 1 or None",
        lambda v: v >= 1 and v == int(v),
        "None inverts with each factor update",
    ),
    "fallback_lr": ("> 0", lambda v: v > 0, "the usual value is 1e-3"),
    "adaptation_interval": ("a whole number >= 1", lambda v: v >= 1 and v == int(v), "5 is usual"),
    "adaptation_decay": ("in (0, 1)", lambda v: 0 < v < 1, "the usual value is 0.9"),
    "tolerance": ("in (0, 1)", lambda v: 0 < v < 1, "typical values are 1e-6 to 1e-2"),
    "max_iterations": ("a whole number >= 1", lambda v: v >= 1 and v == int(v), "50 is usual"),
    "max_factor_size": ("a whole number >= 1", lambda v: v >= 1 and v == int(v), "1024 is usual"),
    "mc_samples": ("a whole number >= 1", lambda v: v >= 1 and v == int(v), "1 is usual"),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check numbers by name.

    Raises:
        InvalidInputError: If a number breaks the rule of its name.
    """
    for name, value in settings.items():
        rule, holds, remedy = _RULES[name]
        optional = name in ("kl_clip", "inverse_interval")
        if (value is None and optional) or (value == "auto" and name == "kl_clip"):
            continue
        if value is None or not math.isfinite(value) or not holds(value):
            raise InvalidInputError(f"{name} must be {rule}, got {value!r}; {remedy}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Check a word.

    Raises:
        InvalidInputError: If ``value`` is not one of ``choices``.
    """
    if value not in choices:
        raise InvalidInputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
