"""What a study of `fisherbo.tune_training` calls its value, and how it writes parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.study import Study

from fisherbo.tuning.record import CONFIG
from fisherbo.tuning.search_spaces import LABELS, OPTIMIZERS, recorded
from fisherbo.visualization.notation import PLAIN, Notation


def notation_of(study: Study) -> Notation:
    """How the study's parameters are written; as they are, of other studies and optimizers."""
    config = study.user_attrs.get(CONFIG, {})
    if config.get("optimizer") not in OPTIMIZERS:
        return PLAIN
    optimizer, setting = recorded(config)

    def write(params: Mapping[str, Any]) -> Mapping[str, Any]:
        if not optimizer.space.keys() - optimizer.fixed.keys() <= params.keys():
            return params  # of a trial that was killed while it began
        return optimizer.written(params, setting)

    return Notation(write, LABELS)


def value_of(study: Study) -> str:
    """What the value of the study's trials is called, with its unit where there is one."""
    config = study.user_attrs.get(CONFIG, {})
    if "metric" not in config:
        return "objective value"
    return value_name(str(config["metric"]), config.get("target"))


def value_name(metric: str, target: float | None) -> str:
    """What the value of a trial is called."""
    return metric if target is None else f"log10(steps to {metric} {target:g})"
