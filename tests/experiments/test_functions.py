import numpy as np
import pytest

pytest.importorskip("botorch")

from experiments import functions
from experiments.harness.comparison import group


def test_boxes_hold_the_minimum_and_differ():
    found = functions.names()
    assert len(found) == functions.BOXES * len(functions.FUNCTIONS)
    assert len({group(name) for name in found}) == len(functions.FUNCTIONS)
    for name, (label, _) in found.items():
        problem, function = functions.problem(name), functions.function(label)
        low = np.array([d.low for d in problem.space.values()])
        high = np.array([d.high for d in problem.space.values()])
        first, last = function.bounds
        assert np.allclose(high - low, functions.SHARE * (last - first))
        assert (low >= first - 1e-9).all() and (high <= last + 1e-9).all()
        least = np.clip(function.minimiser, low, high)
        np.testing.assert_allclose(least, function.minimiser, atol=1e-9)
        assert problem.loss(dict(zip(problem.space, least, strict=True))) == pytest.approx(0)
    boxes = [
        functions.problem(n).space["x0"] for n, (label, _) in found.items() if label == "Beale"
    ]
    assert len({box.low for box in boxes}) == functions.BOXES


@pytest.mark.parametrize("name", functions.FUNCTIONS)
def test_the_minimum_is_the_published_one_and_none_is_lower(name):
    function = functions.function(name)
    published = function.formula._optimal_value
    assert function.minimum == pytest.approx(-0.8 if name == "Cosine8" else published, rel=1e-4)
    low, high = function.bounds
    points = np.random.default_rng(0).uniform(low, high, (300, len(low)))
    near = np.clip(function.minimiser + 1e-3 * (points - function.minimiser), low, high)
    assert min(map(function, [*points, *near])) >= function.minimum - 1e-9


def test_a_run():
    run = functions.Run("random", next(iter(functions.names())), 0, 5)
    trace = functions.work(run)
    assert len(trace.values) == 5
    assert min(trace.values) >= 0
