"""Whatever is asked and told in whatever order: valid values, no exception, nothing global moved.

`Studies` is the machine; `DIRECTIONS` and `CONSTRAINTS` are what a study of it may have.
"""

import os
import random
import tracemalloc

import numpy as np
import optuna
import pytest
import sklearn  # noqa: F401 - sets a variable of the environment when it is imported
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from fisherbo import FisherPruner, FisherSampler

DIRECTIONS = [["minimize"], ["maximize"], ["minimize", "maximize"]]
CONSTRAINTS = [(), ("size",)]

names = st.sampled_from(["x", "lr/opt", "größe", "層", "n layers", "z"])
places = st.floats(-1e3, 1e3, allow_nan=False)
reports = places | st.sampled_from([float("nan"), float("inf"), 1e300, -1e300, 0.0])
outcomes = st.sampled_from(["complete", "nan", "inf", "-inf", "huge", "pruned", "fail"])


@st.composite
def distributions(draw):
    """Any distribution, one-valued ones among them."""
    kind = draw(st.sampled_from(["float", "log", "step", "int", "int step", "int log", "category"]))
    low, width = draw(places), draw(st.floats(0, 100))
    whole, span = draw(st.integers(-50, 50)), draw(st.sampled_from([0, 1, 7, 1000, 10**9]))
    match kind:
        case "float":
            return FloatDistribution(low, low + width)
        case "log":
            return FloatDistribution(10 ** draw(st.floats(-8, 0)), 1 + width, log=True)
        case "step":
            return FloatDistribution(0.0, 0.25 * draw(st.integers(0, 9)), step=0.25)
        case "int":
            return IntDistribution(whole, whole + span)
        case "int step":
            step = draw(st.integers(1, 5))
            return IntDistribution(whole, whole + step * draw(st.integers(0, 9)), step=step)
        case "int log":
            return IntDistribution(1, 1 + span, log=True)
    choices = st.sampled_from(["a", "b", None, True, 3, 2.5, "ü/x"])
    return CategoricalDistribution(draw(st.lists(choices, min_size=1, max_size=4, unique=True)))


def suggest(trial, name, d):
    if isinstance(d, CategoricalDistribution):
        return trial.suggest_categorical(name, d.choices)
    if isinstance(d, IntDistribution):
        return trial.suggest_int(name, d.low, d.high, step=d.step, log=d.log)
    return trial.suggest_float(name, d.low, d.high, step=d.step, log=d.log)


def global_state():
    legacy = np.random.get_state()  # noqa: NPY002 - the state that must not move
    state = [legacy[1].tolist(), legacy[2], random.getstate(), dict(os.environ), np.geterr()]
    state += [torch.get_num_threads(), torch.get_default_dtype()]
    return [*state, torch.random.get_rng_state().tolist()]


class Studies(RuleBasedStateMachine):
    """A study whose space may change from trial to trial, with trials open at the same time."""

    @initialize(
        space=st.dictionaries(names, distributions(), min_size=1, max_size=4),
        directions=st.sampled_from(DIRECTIONS),
        constraints=st.sampled_from(CONSTRAINTS),
        seed=st.integers(0, 99),
    )
    def begin(self, space, directions, constraints, seed):
        sampler = FisherSampler(seed=seed, n_startup_trials=2)
        self.study = optuna.create_study(directions=directions, sampler=sampler)
        self.space, self.constraints, self.open = dict(space), constraints, []

    @rule(left_out=st.none() | names)
    def ask(self, left_out):
        before = global_state()
        trial = self.study.ask()
        fixed = self.study.trials[trial.number].system_attrs.get("fixed_params", {})
        for name, d in self.space.items():
            if name != left_out or len(self.space) == 1:
                value = d.to_internal_repr(suggest(trial, name, d))
                assert name in fixed or d._contains(value)  # Optuna keeps fixed ones as they are
        assert global_state() == before
        self.open.append(trial)

    @precondition(lambda self: self.open)
    @rule(outcome=outcomes, value=places, which=st.integers(0, 7), slack=places)
    def tell(self, outcome, value, which, slack):
        trial = self.open.pop(which % len(self.open))
        for name in self.constraints:
            trial.set_constraint(name, slack)
        count = len(self.study.directions)
        special = {"inf": float("inf"), "-inf": float("-inf"), "huge": 1e300}
        if outcome == "pruned" and count == 1:
            if 3 not in self.study.trials[trial.number].intermediate_values:
                trial.report(value, 3)
            self.study.tell(trial, state=TrialState.PRUNED)
        elif outcome in ("fail", "nan", "pruned"):
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, [special.get(outcome, value)] * count)

    @precondition(lambda self: self.open and len(self.study.directions) == 1)
    @rule(values=st.lists(reports, min_size=1, max_size=6), which=st.integers(0, 7))
    def report(self, values, which):
        """Go on with the learning curve of an open trial."""
        trial = self.open[which % len(self.open)]
        begun = max(self.study.trials[trial.number].intermediate_values, default=-1) + 1
        for step, value in enumerate(values, begun):
            trial.report(value, step)

    @rule(data=st.data())
    def enqueue(self, data):
        name = data.draw(st.sampled_from(sorted(self.space)))
        d = self.space[name]
        if isinstance(d, CategoricalDistribution):
            self.study.enqueue_trial({name: data.draw(st.sampled_from(d.choices))})
        else:
            self.study.enqueue_trial({name: d.high})

    @rule(data=st.data(), name=names)
    def change(self, data, name):
        old = self.space.get(name)
        new = data.draw(distributions())
        category = [isinstance(d, CategoricalDistribution) for d in (old or new, new)]
        if any(category) and old is not None:
            return  # Optuna allows no other kind and no other choices under one name
        if old is None or (type(old) is type(new) and old.log == new.log):
            self.space[name] = new


Studies.TestCase.settings = settings(
    max_examples=12, stateful_step_count=25, suppress_health_check=list(HealthCheck)
)
TestStudies = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")(
    Studies.TestCase
)


STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.FAIL]
curves = st.lists(reports, max_size=12)
told = st.tuples(st.sampled_from(STATES), curves, st.none() | reports)


@settings(max_examples=40, deadline=None)
@given(
    trials=st.lists(told, min_size=6, max_size=14),
    direction=st.sampled_from(["minimize", "maximize"]),
    seed=st.integers(0, 99),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_learning_curves_of_trials_that_are_complete_pruned_failed_or_running(
    trials, direction, seed
):
    """A value is the last report or anything; the sampler goes on, and stays the same."""
    space = {"x": FloatDistribution(0, 1), "n": IntDistribution(1, 9)}
    rng, found = np.random.default_rng(seed), []
    for _ in range(2):
        sampler = FisherSampler(seed=seed, n_startup_trials=3)
        pruner = FisherPruner()
        found.append(optuna.create_study(direction=direction, sampler=sampler, pruner=pruner))
    for state, curve, value in trials:
        last = curve[-1] if curve and not np.isnan(curve[-1]) else 0.0
        value = last if value is None or np.isnan(value) else value
        trial = create_trial(
            params={"x": rng.random(), "n": int(rng.integers(1, 10))},
            distributions=space,
            state=state,
            value=value if state == TrialState.COMPLETE else None,
            intermediate_values=dict(enumerate(curve)),
        )
        for study in found:
            study.add_trial(trial)
    before = global_state()
    asked = [study.ask(space) for study in found]
    assert asked[0].params == asked[1].params and 0 <= asked[0].params["x"] <= 1
    for trial in asked:
        trial.report(0.5, 0)
        trial.report(0.7, 1)
    stops = {trial.should_prune() for trial in asked} | {asked[0].should_prune()}
    assert len(stops) == 1
    assert global_state() == before


def run(objective, n_trials=8):
    study = optuna.create_study(sampler=FisherSampler(seed=0, n_startup_trials=3))
    study.optimize(objective, n_trials=n_trials)
    return study


@pytest.mark.parametrize("log", [False, True])
def test_a_billion_integers_need_no_memory(log):
    def objective(trial):
        return abs(trial.suggest_int("n", 1, 10**9, log=log) - 12345) / 1e9 + (
            trial.suggest_float("x", 0, 1)
        )

    run(objective)
    tracemalloc.start()
    run(objective)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


def test_two_hundred_parameters():
    study = run(lambda t: sum(t.suggest_float(f"x{j}", 0, 1) for j in range(200)), 6)
    assert len(study.trials[-1].params) == 200


def test_single_values_take_no_part():
    def objective(trial):
        constant = trial.suggest_int("i", 3, 3), trial.suggest_categorical("c", ["only"])
        assert constant == (3, "only") and trial.suggest_float("f", 0.5, 0.5) == 0.5
        return trial.suggest_float("x", 0, 1)

    assert run(objective).best_value < 0.2


def test_all_values_single():
    assert len(run(lambda t: t.suggest_int("i", 3, 3), 5).trials) == 5


def test_log_integers_and_steps_stay_on_their_grids():
    def objective(trial):
        n = trial.suggest_int("n", 3, 17, log=True)
        s, f = trial.suggest_int("s", -7, 8, step=5), trial.suggest_float("f", 0.1, 1, step=0.3)
        assert isinstance(n, int) and 3 <= n <= 17
        assert s in (-7, -2, 3, 8)
        assert min(abs(f - v) for v in (0.1, 0.4, 0.7, 1.0)) < 1e-9
        return n + s + f

    run(objective, 14)
