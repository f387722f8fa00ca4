"""What the experiment on costs counts: seconds, budgets, and costs that tell nothing."""

from types import SimpleNamespace

import numpy as np
import pytest

from experiments import cost, surfaces
from experiments.cost import Cell, by_task, ended, problems, reached, told

ROW = {"values": [5.0, 3.0, 4.0, 1.0], "costs": [1.0, 2.0, 3.0, 4.0]}


@pytest.mark.parametrize(
    ("seconds", "best"), [(0.5, np.inf), (1.0, 5.0), (2.9, 5.0), (6.0, 3.0), (10.0, 1.0)]
)
def test_only_trials_that_ended_in_time_count(seconds, best):
    assert reached(ROW, seconds) == best


def test_a_run_ends_with_its_budget_or_after_many_trials():
    limited = Cell("cost", "task", 0, budget=3.0)
    assert not ended(limited, [1.0, 1.5])
    assert ended(limited, [1.0, 1.5, 9.0])
    assert ended(limited, [0.0] * cost.MOST_TRIALS)
    assert not ended(Cell("no cost", "task", 0), [9.0] * (cost.TRIALS - 1))
    assert ended(Cell("no cost", "task", 0), [9.0] * cost.TRIALS)


def test_costs_that_tell_nothing_are_the_same_for_all_samplers():
    one, other = Cell("cost", "task", 0, "random", 9.0), Cell("no cost", "task", 0, "random")
    drawn = [told(one, k, 5.0) for k in range(2000)]
    assert drawn == [told(other, k, 7.0) for k in range(2000)]
    assert np.std(np.log(drawn)) == pytest.approx(cost.SPREAD, rel=0.05)
    assert told(Cell("cost", "task", 0, "constant"), 3, 5.0) == 1.0
    assert told(Cell("cost", "task", 0), 3, 0.0) == cost.LEAST
    assert told(Cell("cost", "task", 0), 3, 5.0) == 5.0


def test_seeds_of_a_task_are_averaged():
    chosen = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert by_task(chosen, np.array([1.0, 2.0, 3.0, 6.0])).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("dev", [True, False])
def test_development_and_final_tasks_are_apart(dev):
    chosen = problems(SimpleNamespace(dev=dev, quick=False))
    names = {name for name, _ in chosen}
    ours, others = surfaces.DEVELOPMENT, surfaces.FINAL
    assert names <= set(surfaces.names(ours if dev else others))
    assert not names & set(surfaces.names(others if dev else ours))
    assert len(set(chosen)) == len(chosen)
