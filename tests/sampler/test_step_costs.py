"""What a step of a running trial costs beside the steps of others."""

import math
from datetime import datetime, timedelta

import pytest
from optuna.trial import TrialState, create_trial

from fisherbo.sampler.learning_curves import CurveAxis
from fisherbo.sampler.step_costs import relative_cost

AXIS = CurveAxis(first=1.0, last=10.0, unit=1.0, best=False)


def trial_of(steps, state=TrialState.COMPLETE, began=None, seconds=None, **attributes):
    trial = create_trial(
        state=state,
        value=1.0 if state == TrialState.COMPLETE else None,
        intermediate_values={step: 1.0 for step in range(1, steps + 1)},
        user_attrs=attributes,
    )
    if seconds is not None:
        trial.datetime_start = began or datetime(2026, 1, 1)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=seconds)
    return trial


def running(steps, **attributes):
    trial = trial_of(steps, TrialState.RUNNING, **attributes)
    trial.datetime_complete = None
    return trial


def test_a_trial_counts_with_one_more_step_of_the_mean_cost():
    others = [trial_of(10, price=30.0), trial_of(2, TrialState.PRUNED, price=6.0)]
    mean = 36 / 12
    found = relative_cost(running(4, price=40.0), others, AXIS, "price")
    assert found == pytest.approx((40 + mean) / 5 / mean)
    assert relative_cost(running(4, price=4 * mean), others, AXIS, "price") == pytest.approx(1)


def test_seconds_are_durations_where_no_attribute_tells_them():
    others = [trial_of(10, seconds=10), trial_of(5, TrialState.PRUNED, seconds=5)]
    trial = running(4)
    trial.datetime_start = datetime.now() - timedelta(seconds=400)
    found = relative_cost(trial, others, AXIS, "seconds")
    assert found == pytest.approx((400 + 1) / 5, rel=0.01)
    trial.user_attrs["seconds"] = 4.0
    assert relative_cost(trial, others, AXIS, "seconds") == pytest.approx(1)


def test_only_the_latest_trials_tell_the_mean():
    others = [trial_of(10, price=1e9), *(trial_of(10, price=10.0) for _ in range(20))]
    assert relative_cost(running(4, price=4.0), others, AXIS, "price") == pytest.approx(1)


@pytest.mark.parametrize("told", [math.nan, math.inf, -1.0, "a lot", True, None])
def test_unknown_costs_are_alike(told):
    known, unknown = [trial_of(10, price=10.0)], [trial_of(10, price=told)]
    assert relative_cost(running(4, price=told), known, AXIS, "price") == 1
    assert relative_cost(running(4, price=4.0), unknown, AXIS, "price") == 1
    assert relative_cost(running(4, price=9.0), [*known, *unknown], AXIS, "price") > 1


def test_steps_are_alike_whatever_an_attribute_says():
    trial, other = running(4), trial_of(10)
    trial.user_attrs["steps"], other.user_attrs["steps"] = 1e6, 1.0
    assert relative_cost(trial, [other], AXIS, "steps") == 1
