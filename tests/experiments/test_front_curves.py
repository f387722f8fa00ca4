"""Fronts of two objectives: their area, and a study on a table from beginning to end."""

import numpy as np
import pytest

from experiments import front_curves
from experiments.curve_tasks import CurveTable
from experiments.front_curves import EPOCHS, NAMES, Cell, area, dominated, run


def test_the_area_is_that_of_draws():
    rng = np.random.default_rng(0)
    values, reference = rng.random((8, 2)), np.array([0.9, 0.8])
    draws = rng.random((200_000, 2)) * reference
    below = (draws[:, None] >= values).all(-1).any(-1).mean()
    assert area(values, reference) == pytest.approx(below * reference.prod(), abs=3e-3)
    assert dominated(values, values) == 1.0
    assert 0 < dominated(values[:4], values) <= 1.0


@pytest.mark.parametrize("pruner", ["none", "fisher"])
def test_a_study_uses_its_epochs_and_no_more(monkeypatch, pruner):
    rng = np.random.default_rng(1)
    u = rng.random((40, len(NAMES)))
    ends = ((u - 0.4) ** 2).sum(1)
    loss = ends[:, None] + np.exp(-0.3 * np.arange(EPOCHS))
    tables = CurveTable(NAMES, u, loss), u[:, 3].copy()
    monkeypatch.setattr(front_curves, "table", lambda data: tables)
    monkeypatch.setattr(front_curves, "BUDGET", 4)
    monkeypatch.setattr(front_curves, "CHECKPOINTS", (2, 4))
    row = run(Cell("made", "random", pruner, 0))
    assert len(row["shares"]) == 2
    assert (np.diff(row["shares"]) >= 0).all() and row["shares"][-1] <= 1
    if pruner == "none":
        assert row["trials"] == row["complete"] == 4
    else:
        assert row["complete"] < 4 < row["trials"] <= 40
