"""Objective values of any size: what is out of all proportion hides nothing of the others."""

import numpy as np
import optuna
import pytest

from fisherbo import FisherSampler
from fisherbo.sampler.outliers import without_outliers

LARGEST = np.finfo(np.float64).max
HUGE = [1e20, 1e25, 1e30, np.finfo(np.float32).max, LARGEST]


def bowl(x):
    return float(((np.asarray(x) - 1) ** 2).sum())


def best_with(faulty, *, faults, n_trials=40, d=4, offset=0.0):
    """Best true value where some trials, told by number or point, return another value."""

    def objective(trial):
        x = [trial.suggest_float(f"x{j}", -5, 5) for j in range(d)]
        trial.set_user_attr("true", bowl(x))
        return faulty if faults(trial.number, x) else bowl(x) + offset

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(objective, n_trials=n_trials)
    good = [t for t in study.trials if not faults(t.number, list(t.params.values()))]
    return min(t.user_attrs["true"] for t in good)


@pytest.mark.parametrize("value", [*HUGE, float("inf"), *(-v for v in HUGE[1:]), float("-inf")])
def test_one_huge_value_of_either_sign_hides_nothing(value):
    assert best_with(value, faults=lambda number, x: number == 0) < 0.02


@pytest.mark.parametrize("value", [1e6, 1e26, LARGEST, float("inf")])
@pytest.mark.parametrize("share", [0.25, 0.6, 0.85])
def test_a_penalty_in_part_of_the_space_hides_nothing_of_the_rest(value, share):
    low = {0.25: -2.5, 0.6: 1.0, 0.85: 3.5}[share]  # the best x0 is the edge, or 1
    found = best_with(value, faults=lambda number, x: x[0] < low, d=3, n_trials=45)
    assert found - max(low - 1, 0) ** 2 < 0.2


def test_a_penalty_may_be_noisy():
    rng = np.random.default_rng(0)

    def objective(trial):
        x = [trial.suggest_float(f"x{j}", -5, 5) for j in range(3)]
        return bowl(x) if x[0] > 1 else 1e26 * (1 + rng.random())

    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(objective, n_trials=45)
    assert study.best_value < 0.1


def test_huge_values_of_one_objective_leave_the_front_of_the_others():
    def volume(value):
        def objective(trial):
            x = [trial.suggest_float(f"x{j}", 0, 1) for j in range(2)]
            first = float(((np.array(x) - 0.2) ** 2).sum())
            return (value if trial.number == 3 else first), float(((np.array(x) - 0.8) ** 2).sum())

        study = optuna.create_study(directions=["minimize"] * 2, sampler=FisherSampler(seed=0))
        study.optimize(objective, n_trials=24)
        front = sorted(t.values for t in study.trials if max(t.values) < 1 and t.number != 3)
        area, height = 0.0, 1.0
        for first, second in front:
            area += (1 - first) * max(height - second, 0)
            height = min(height, second)
        return area

    expected = volume(float("inf"))
    assert expected > 0.85
    for value in (1e30, LARGEST):
        assert volume(value) > expected - 0.01


@pytest.mark.parametrize("offset", [1e14, -1e14])
def test_an_offset_hides_no_more_than_rounding_does(offset):
    assert best_with(0.0, faults=lambda number, x: False, offset=offset, n_trials=30) < 0.1


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1e30, 1e300])
def test_the_unit_of_the_values_is_of_no_account(scale):
    def params(scale):
        study = optuna.create_study(sampler=FisherSampler(seed=0))
        study.optimize(
            lambda t: scale * bowl([t.suggest_float(f"x{j}", -5, 5) for j in range(2)]), n_trials=22
        )
        return [list(t.params.values()) for t in study.trials]

    power = 2.0 ** np.round(np.log2(scale))  # exact in floating point
    assert np.array(params(power)) == pytest.approx(np.array(params(1.0)), abs=1e-3)


def faults(y, penalties=True):
    """1 for what is too good, −1 for penalties, 0 for what stays as it is."""
    y = np.asarray(y, dtype=np.float64)
    found = without_outliers(y, penalties=penalties)
    changed = ~((found == y) | np.isnan(y))
    return np.where(changed, np.sign(found), 0).tolist()


def test_what_is_out_of_scale_is_told_from_what_grows_by_orders_of_magnitude():
    rng = np.random.default_rng(0)
    ordinary = -rng.lognormal(0, 2, 30)
    for size in (1e25, LARGEST):
        assert faults(np.append(ordinary, size)) == [0] * 30 + [1]
        assert faults(np.append(ordinary, -size)) == [0] * 30 + [-1]
        assert faults(np.append(ordinary, [size, 0.5 * size])) == [0] * 30 + [1, 1]
        noisy = -size * (0.5 + 0.5 * rng.random(60))
        assert faults(np.append(ordinary, noisy)) == [0] * 30 + [-1] * 60
    likelihood = np.exp(-1000 * ((rng.random((40, 3)) - 0.5) ** 2).sum(1))
    assert not any(faults(likelihood))
    converged = -np.append(10.0 ** -np.linspace(0, 14, 40), 0)
    assert not any(faults(converged))
    assert faults(np.append(converged, 1e30))[-1] == 1
    assert not any(faults([1.0, 1e30]))
    assert not any(faults([0.0, np.inf, np.nan, -np.inf] * 4))


def test_a_penalty_is_one_worst_value_that_is_repeated_far_from_the_others():
    others = [-1.0, -2.0, -4.0, -1.5, -3.0]
    assert faults([*others, -1e3, -1e3, -1e3]) == [0] * 5 + [-1] * 3
    assert faults([*others, -14.0, -14.0, -14.0]) == [0] * 5 + [-1] * 3
    assert not any(faults([*others, -12.9, -12.9, -12.9]))  # within 3 ranges
    assert not any(faults([*others, -1e3, -1e3, -1.0]))  # may be chance
    assert not any(faults([*others, -1e3, -1e3, -1e3, -900.0]))
    assert not any(faults([*others, -1e3, -1e3, -1e3], penalties=False))
    assert not any(faults([-1.0] * 5 + [-2.0] * 5))  # a classifier that is right or wrong
    assert not any(faults([-1e3] * 10))


def test_a_value_that_is_too_good_is_told_once(caplog):
    optuna.logging.enable_propagation()
    try:
        best_with(-1e30, faults=lambda number, x: number == 2, n_trials=15)
    finally:
        optuna.logging.disable_propagation()
    assert len({r.created for r in caplog.records if "15 orders of" in r.getMessage()}) == 1
