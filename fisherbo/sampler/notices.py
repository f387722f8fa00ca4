"""Warnings that a sampler gives once for each study."""

from __future__ import annotations

import logging

import optuna
from optuna.study import Study

_LOGGER = logging.getLogger("optuna.fisherbo")


class Notices:
    """Warnings that were given already are not given again."""

    def __init__(self) -> None:
        self._given: set[tuple[str, str]] = set()  # names of studies, and warnings

    def give(self, study: Study, message: str, topic: str = "") -> None:
        """Warn once for each study, and for each topic or message."""
        if (key := (study.study_name, topic or message)) not in self._given:
            self._given.add(key)
            optuna.logging.get_verbosity()  # sets up Optuna's handler
            _LOGGER.warning(message)
