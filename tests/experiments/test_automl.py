import numpy as np
import pytest

pytest.importorskip("sklearn")

from experiments import automl
from experiments.automl import FISHER, METHODS, Clock, SearchCell


def row(*scores, step=1.0):
    return {"scores": list(scores), "seconds": [step * (i + 1) for i in range(len(scores))]}


def test_the_best_at_a_second_is_what_was_known_by_then():
    made = row(0.1, 0.5, 0.3, 0.9)
    assert automl.best_after(made, 3) == 0.5
    assert automl.best_at(made, 2.5) == 0.5
    assert automl.best_at(made, 4.0) == 0.9
    assert automl.best_at(made, 0.2) == 0.1  # the first is waited for


def test_gaps_are_paired_and_in_units_of_random_candidates():
    scores = np.linspace(0, 1, 50)  # interquartile range 1/2
    found = {
        SearchCell(FISHER, "a", 0): row(*scores, step=0.1),
        SearchCell("random", "a", 0): row(*scores[:49], 0.5, 2.0),
        SearchCell("random", "a", 1): row(*scores),
    }
    ends = automl.gaps(found, "random", at_time=False)
    assert list(ends) == [("a", 0)]
    assert ends["a", 0] == pytest.approx((1 - 48 / 49) / automl.spread(found, "a"))
    times = automl.gaps(found, "random", at_time=True)  # 5 seconds: five candidates
    assert times["a", 0] == pytest.approx((1 - scores[4]) / automl.spread(found, "a"))


def test_shares_of_wins_ties_and_losses_sum_to_one():
    gap = automl.rounded([0.2, 1e-12, -0.1, 0.3])
    assert automl.outcome(gap) == pytest.approx((0.5, 0.25, 0.25))
    assert sum(automl.shares(50, automl.tasks()["steps, diabetes"])) == 50


def test_a_clock_makes_candidates_of_folds():
    clock = Clock("r2")
    clock.scores, clock.seconds = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert clock.row() == {"scores": [2.0, 6.0], "seconds": [0.3, 0.6]}


@pytest.mark.slow
@pytest.mark.parametrize("method", [m for m in METHODS if m != "skopt"])
@pytest.mark.filterwarnings("ignore")
def test_every_method_searches_the_pipelines(method):
    made = automl.search(SearchCell(method, "steps, diabetes", 100))
    count = {"random": 150, "halving": 1}.get(method, 50)
    assert len(made["scores"]) == len(made["seconds"]) == count
    assert 0.2 < max(made["scores"]) < 0.8
    assert np.all(np.diff(made["seconds"]) > 0)
