"""`FisherPruner`, an Optuna pruner that stops trials by where the curve model believes they end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtr

from fisherbo.gp.curve_model import CurveFit, CurveModel, condition_on_curves, fit_curves
from fisherbo.sampler.learning_curves import CurveData, curve_axis, curve_data
from fisherbo.sampler.optuna_private import get_trials
from fisherbo.sampler.trials import StudyReaders
from fisherbo.space import Array

RULE = {"kind": "p", "p": 0.05, "start": 1, "floor": 1, "rho": 1.0}
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class FisherPruner(BasePruner):
    def __init__(self, *, max_step=None, **rule) -> None:
        self.max_step = max_step
        self.rule = {**RULE, **rule}
        self.readers = StudyReaders()
        self.fit = None
        self.key = None
        self.log = []

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        reports = trial.intermediate_values
        r = self.rule
        if len(reports) < r["floor"]:
            return False
        trials = get_trials(study, _FINISHED, use_cache=False)
        if sum(t.state == TrialState.COMPLETE for t in trials) < r["start"]:
            return False
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        key = (len(trials), trials[-1].number)
        if key != self.key:
            axis = curve_axis(trials, sign, self.max_step)
            self.data = data = None if axis is None else curve_data(trials, axis)
            self.key = key
            if data is not None:
                reader = self.readers.of(study)
                self.space_ = reader.parameters([*trials, trial]).varying
                space, table = reader.table(self.space_, trials)
                x = table.points(space)[data.row]
                n = len(data.curves)
                if self.fit is None or n < 20 or n - self.fit.count >= (n - 20) / 20 + 1:
                    self.fit = fit_curves(data.curves, x, space.choices, self.fit)
                self.model = condition_on_curves(data.curves, x, space.choices, self.fit)
                self.cost = np.mean([len(t.intermediate_values) for t in trials])
                P = self.model.posterior
                Kinv = P.precision.diagonal() / P.hyper.signal
                mu = P.y - P.alpha / P.hyper.signal / Kinv
                var = np.maximum(1 / Kinv - P.nugget + P.hyper.noise, 1e-12)
                self.loo = np.mean([ei(m, v, data.ends.max()) for m, v in zip(mu[-20:], var[-20:])])
        if self.data is None:
            return False
        if not math.isfinite(reports[max(reports)]):
            return True
        from fisherbo.sampler.search_space import from_params
        from fisherbo.sampler.trials import read
        reader = self.readers.of(study)
        space, _ = reader.table(self.space_, trials)
        xx = read(space, self.space_, [trial]).points(space)[0]
        m0, v0 = self.model.before(xx)
        m, v = self.model.end(xx, self.data.begun(reports))
        best = self.data.ends.max()
        p = float(ndtr((m - best) / math.sqrt(v)))
        rest = (self.data.axis.last - max(reports)) / self.data.axis.unit
        self.log.append((trial.number, len(reports), m0, v0, m, v, best, p))
        if rest <= 0:
            return False
        if r["kind"] == "p":
            return p < r["p"]
        now = ei(m, v, best)
        if r["kind"] == "rate":
            new = max(ei(m0, v0, best), self.loo)
            return now / rest < r["rho"] * new / self.cost
        if r["kind"] == "own":
            return now / rest < r["rho"] * ei(m0, v0, best) / self.cost


def ei(m, v, best):
    s = math.sqrt(v)
    z = (m - best) / s
    return s * (z * float(ndtr(z)) + math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))
