"""Policies' tables: settings to and from the unit cube, and a study that uses its steps."""

import numpy as np
import pytest

from experiments import policy_curves
from experiments.policy_curves import Cell, nearest, run, settings_at
from fisherbo.tuning.policy import SPACE


def test_settings_and_points_of_the_cube_are_each_other():
    u = np.random.default_rng(0).random((30, len(SPACE)))
    assert [nearest(u, settings_at(point)) for point in u] == list(range(30))
    low, high = settings_at(np.zeros(3)), settings_at(np.ones(3))
    for name, kind in SPACE.items():
        assert (low[name], high[name]) == pytest.approx((kind.low, kind.high))


@pytest.mark.parametrize("pruner", ["none", "median"])
def test_a_study_is_scored_at_every_checkpoint_and_ends(monkeypatch, pruner):
    rng = np.random.default_rng(1)
    u = rng.random((40, len(SPACE)))
    worth = -((u - 0.4) ** 2).sum(1)[:, None] + 0.01 * rng.standard_normal((40, 3))
    curves = worth[:, :, None] - np.exp(-0.5 * np.arange(8))
    monkeypatch.setattr(policy_curves, "table", lambda name: (u, curves, worth))
    monkeypatch.setattr(policy_curves, "BUDGET", 10)
    monkeypatch.setattr(policy_curves, "CHECKPOINTS", (5, 10))
    row = run(Cell("made", pruner, 0))
    assert len(row["shares"]) == 2
    assert all(0 <= share <= 1 for share in row["shares"])
    assert row["shares"][1] < 0.5
    if pruner == "none":
        assert row["trials"] == row["complete"] == 10
    else:
        assert row["complete"] < 10 < row["trials"]
