"""Trials that go on where another worker was killed: checkpoints by trial, handed over once.

A trial that was interrupted, or whose worker died, is a failed trial without a reason; if it left a
checkpoint, its parameters are enqueued again and the new trial goes on from the file. Renaming the
file decides which worker hands it over.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import optuna
from optuna.trial import FrozenTrial, TrialState

from fisherbo.tuning.record import failure

RESUMES = "resumes"  # user attribute: the number of the trial that this one goes on with


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a study's trials.

    Attributes:
        folder: Where they are, one file a trial.
    """

    folder: Path

    @classmethod
    def of(cls, folder: str | Path, study_name: str) -> Checkpoints:
        """Those of one study among several in a folder."""
        return cls(Path(folder) / quote(study_name, safe=""))

    def path(self, number: int) -> Path:
        """The file of a trial."""
        return self.folder / f"trial-{number}.pt"

    def begin(self, trial: optuna.Trial) -> Path:
        """The trial's file: that of the trial which it goes on with, or none yet."""
        own = self.path(trial.number)
        own.unlink(missing_ok=True)  # left by another study of the same name
        resumes = trial.user_attrs.get(RESUMES)
        if resumes is not None:
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._handed_over(resumes), own)
        return own

    def end(self, trial: optuna.Trial) -> None:
        """Remove the file of a trial that ended by itself."""
        self.path(trial.number).unlink(missing_ok=True)

    def requeue(self, study: optuna.Study) -> None:
        """Enqueue the trials that were broken off and left a checkpoint."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if failure(trial) is None and trial.params and self._claim(trial):
                study.enqueue_trial(trial.params, user_attrs={RESUMES: trial.number})

    def _claim(self, trial: FrozenTrial) -> bool:
        """Whether this worker is the one that hands the trial over."""
        try:
            os.rename(self.path(trial.number), self._handed_over(trial.number))
        except FileNotFoundError:
            return False
        return True

    def _handed_over(self, number: int) -> Path:
        return self.folder / f"trial-{number}.handed-over.pt"
