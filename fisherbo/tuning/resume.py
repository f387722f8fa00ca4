"""Trials that go on where another one ended: checkpoints by trial, handed over once.

A trial that was interrupted, or whose worker died, is a failed trial without a reason; if it left a
checkpoint, its parameters are enqueued again and the new trial goes on from the file. Renaming the
file decides which worker hands it over.

A trial that `FisherPruner` stopped keeps its checkpoint until the study has its trials, and is
resumed once it promises more than a new one (`fisherbo.thaw`). Files of the 8 most promising are
kept.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import optuna
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler.optuna_private import get_trial, trial_id
from fisherbo.sampler.pruner import IMPROVEMENT_PROBABILITY, FisherPruner
from fisherbo.sampler.resumption import MOST_FROZEN, thaw
from fisherbo.sampler.trials import RESUME
from fisherbo.tuning.record import failure


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
        """The trial's file: that of the trial that it continues, or none yet."""
        own = self.path(trial.number)
        own.unlink(missing_ok=True)  # left by another study of the same name
        resumed = trial.user_attrs.get(RESUME)
        for file in () if resumed is None else (self._handed_over(resumed), self.path(resumed)):
            with contextlib.suppress(FileNotFoundError):
                os.replace(file, own)
                break
        return own

    def end(self, trial: optuna.Trial) -> None:
        """Remove the file of a trial that ended by itself."""
        self.path(trial.number).unlink(missing_ok=True)

    def freeze(self, trial: optuna.Trial) -> None:
        """Keep the file of a trial that is pruned, if the study's pruner may go on with it."""
        if not isinstance(trial.study.pruner, FisherPruner):
            self.end(trial)
            return
        known = [*self._frozen(trial.study), get_trial(trial.study, trial_id(trial))]
        promises = {t.number: t.user_attrs.get(IMPROVEMENT_PROBABILITY, 0.0) for t in known}
        for number in sorted(promises, key=lambda n: -promises[n])[MOST_FROZEN:]:
            self.path(number).unlink(missing_ok=True)

    def thaw(self, study: optuna.Study) -> None:
        """Enqueue the pruned trial that promises more than a new one, if there is one."""
        if isinstance(study.pruner, FisherPruner):
            thaw(study, lambda trial: self.path(trial.number).exists())

    def clear(self, study: optuna.Study) -> None:
        """Remove the files of pruned trials."""
        for trial in self._frozen(study):
            self.path(trial.number).unlink(missing_ok=True)

    def _frozen(self, study: optuna.Study) -> list[FrozenTrial]:
        """Pruned trials that have a file."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))
        return [trial for trial in trials if self.path(trial.number).exists()]

    def requeue(self, study: optuna.Study) -> None:
        """Enqueue the trials that were broken off and left a checkpoint."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            if failure(trial) is None and trial.params and self._claim(trial):
                study.enqueue_trial(trial.params, user_attrs={RESUME: trial.number})

    def _claim(self, trial: FrozenTrial) -> bool:
        """Whether this worker is the one that hands the trial over."""
        try:
            os.rename(self.path(trial.number), self._handed_over(trial.number))
        except FileNotFoundError:
            return False
        return True

    def _handed_over(self, number: int) -> Path:
        return self.folder / f"trial-{number}.handed-over.pt"
