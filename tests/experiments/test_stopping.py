"""Where the rules stop a run, and what a run's end is worth."""

import numpy as np
import pytest

from experiments import stopping, surfaces
from experiments.stopping import BUDGET, Cell, bound_rule, outcome, patience_rule, within


def row(values, bounds):
    """A run with one bound for all probabilities after each trial from the tenth on."""
    return {"values": values, "bounds": [[b] * 4 for b in bounds], "parameters": 2}


def test_the_bound_stops_a_run_where_it_held_three_times():
    values = [2.0] * 9 + [1.0] + [1.0] * 90  # a gain of 1 over the median
    bounds = [1.0] * 20 + [0.09] * 2 + [1.0] + [0.09] * 68  # held after trials 30, 31, 33, 34, 35
    found = row(values, bounds)
    assert bound_rule(found, 0.1, 0.9) == 35
    assert bound_rule(found, 0.05, 0.9) is None
    assert bound_rule(found, 2.0, 0.9) == 20  # not before


def test_the_simple_rule_waits_for_an_improvement():
    values = [3.0] * 10 + [2.0] * 20 + [1.0] * 70
    assert patience_rule(row(values, []), 10) == 21
    assert patience_rule(row(values, []), 20) == 51
    assert patience_rule(row(list(range(BUDGET, 0, -1)), []), 10) is None


def test_the_regret_of_an_end_is_a_share_of_what_was_gained():
    cell, values = Cell("fisher", "task", 0), [3.0] * 10 + [2.0] * 20 + [1.0] * 70
    best = {"task": 0.5}
    assert outcome(cell, row(values, []), 25, best) == stopping.Outcome(25, True, 1.5)
    assert outcome(cell, row(values, []), None, best) == stopping.Outcome(BUDGET, False, 0.25)
    flat = outcome(cell, row([3.0] * BUDGET, []), 25, best)
    assert np.isinf(flat.regret)


def test_a_bound_is_compared_with_the_true_regret():
    found = row([3.0] * 10 + [1.0] * 90, [1.0, *[0.4] * 90])
    held = within(found, 0.5)
    assert held.shape == (91, 4)
    assert held[:, 0].tolist() == [False] + [False] * 90
    assert within(found, 0.6)[1:].all()


def test_the_best_known_value_is_of_all_runs(monkeypatch):
    monkeypatch.setattr(surfaces, "scales", lambda: {"a": (0.5, 1.0), "b": (0.1, 1.0)})
    found = {Cell("fisher", "a", 0): row([0.7, 0.3], []), Cell("random", "a", 1): row([0.6], [])}
    assert stopping.optima(found) == {"a": 0.3, "b": 0.1}


@pytest.mark.parametrize("quick", [True, False])
def test_all_development_tasks_are_run_and_no_others(quick):
    cells = stopping.cells_of(type("Args", (), {"quick": quick}))
    names = {cell.problem for cell in cells if (cell.sampler, cell.scale) == stopping.MAIN}
    everything = set(surfaces.names(surfaces.DEVELOPMENT))
    assert names == everything if not quick else len(names) == len(surfaces.DEVELOPMENT)
    assert {cell.problem for cell in cells} <= everything
    assert len(set(cells)) == len(cells)
