"""Parameters of a study of `fisherbo.tune_training` as keyword arguments of its optimizer."""

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
