"""Trials under evaluation: which of them still have a worker, and which are being suggested for.

A trial whose heartbeat is stale has lost its worker. Without heartbeats a trial that has run much
longer than trials of its study do is treated as lost. If it is alive after all, its value counts as
soon as it is told. Workers' clocks are assumed to agree to a few minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from fisherbo.sampler.optuna_private import stale_trial_ids, trial_id
from fisherbo.sampler.trials import CANDIDATE

if TYPE_CHECKING:
    from optuna.study import Study

PATIENCE = timedelta(minutes=10)
"""Age up to which every running trial counts."""

_LONG = 10  # times the duration that 95 % of the finished trials keep


def without_abandoned(study: Study, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials less the running ones that seem to have lost their worker."""
    running = [t for t in trials if t.state == TrialState.RUNNING]
    if not running:
        return list(trials)
    stale = set(stale_trial_ids(study))
    oldest = _oldest_start(trials, running)
    lost = {t.number for t in running if trial_id(t) in stale or _before(t, oldest)}
    return [t for t in trials if t.number not in lost]


def count_concurrent(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> int:
    """Running trials begun before this one whose point is not known yet."""
    running = (t for t in trials if t.state == TrialState.RUNNING)
    unknown = (t for t in running if not t.params and CANDIDATE not in t.system_attrs)
    return sum(t.number < trial.number for t in unknown)


def _oldest_start(trials: Sequence[FrozenTrial], running: Sequence[FrozenTrial]) -> datetime | None:
    """Trials that began before are abandoned; None if there is no telling."""
    now = datetime.now()
    if not any(_before(t, now - PATIENCE) for t in running):
        return None
    told = (t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED))
    seconds = [t.duration.total_seconds() for t in told if t.duration is not None]
    lasting = [s for s in seconds if s > 0]  # trials that were added as finished last 0 s
    if not lasting:
        return None
    return now - max(PATIENCE, timedelta(seconds=_LONG * float(np.quantile(lasting, 0.95))))


def _before(trial: FrozenTrial, limit: datetime | None) -> bool:
    start = trial.datetime_start
    return limit is not None and start is not None and start < limit
