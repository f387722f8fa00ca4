"""Tables of learning curves: rows of `u` and of losses belong to the same configuration."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from experiments import curve_tables, curves

SPACE = {
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "momentum": FloatDistribution(0.1, 0.99),
    "units": IntDistribution(64, 1024, log=True),
    "layers": IntDistribution(1, 5),
}


@dataclass
class Surface:
    space = SPACE

    def losses(self, many, epoch):
        """Accuracy rises with the epochs; larger is better, so that it is negative as a loss."""
        return np.array([-self.accuracy(p, epoch) for p in many])

    @staticmethod
    def accuracy(p, epoch):
        best = 90 - 10 * abs(math.log10(p["rate"]) + 2) - p["layers"] - p["units"] / 1024
        return best * (1 - math.exp(-epoch * p["momentum"]))


@pytest.fixture
def path(monkeypatch, tmp_path):
    monkeypatch.setattr(curve_tables.yahpo, "surface", lambda name, folder: Surface())
    return curve_tables.write(tmp_path, "1", tmp_path, count=40)


def test_rows_of_a_table_are_the_curves_of_its_configurations(path):
    table = curves.table(str(path))
    params, u = curve_tables.configurations(Surface(), 40)
    assert table.names == tuple(SPACE) and table.loss.shape == (40, 52)
    for i in (0, 17, 39):
        for d, value in zip(SPACE.values(), params[i].values(), strict=True):
            assert d._contains(d.to_internal_repr(value))
        row = table.row(dict(zip(SPACE, table.u[i].tolist(), strict=True)))
        assert row == i
        assert table.loss[i, 9] == pytest.approx(100 - Surface.accuracy(params[i], 10))
        low, high = math.log(1e-4), math.log(1e-1)
        assert u[i, 0] == pytest.approx((math.log(params[i]["rate"]) - low) / (high - low))
        assert u[i, 3] == pytest.approx((params[i]["layers"] - 1) / 4)
    assert (table.loss[:, -1] < table.loss[:, 0]).all()


def test_a_study_on_a_table_with_workers_counts_steps(path, monkeypatch):
    monkeypatch.setattr(curves, "BUDGET", 4)
    row = curves.run(curves.Cell(str(path), "fisher", "median", 0, workers=3))
    used = [steps for steps, _ in row["trace"]]
    losses = [loss for _, loss in row["trace"]]
    assert used[0] >= 52 * 3 - 2 and losses == sorted(losses, reverse=True)
    assert losses[-1] in curves.table(str(path)).loss[:, -1]
    assert curves.paths(path.parent, final=True, every=True) == [str(path)]
