"""Every other trial of a tuning study must gain a margin beyond the best value."""

import numpy as np
import optuna
import pytest

import fisherbo
from fisherbo import FisherSampler
from fisherbo.acquisition.feasibility import unrestricted
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.sampler.next_trial import next_trial
from fisherbo.sampler.options import AlgorithmOptions

RATE, UNITS = 0.01, 64
EXPLORING = AlgorithmOptions(margin=0.3, plateaus=False, stalls=False)


def tuned(trial):
    rate = np.log10(trial.suggest_float("rate", 1e-5, 1.0, log=True) / RATE)
    units = np.log2(trial.suggest_int("units", 4, 1024, log=True) / UNITS)
    return rate**2 + 0.1 * units**2 + 0.2 * (trial.suggest_categorical("kind", "ab") == "b")


def numbers(trial):
    return trial.suggest_float("x", -5, 5) ** 2 + trial.suggest_int("n", -9, 9) ** 2


def choices(trial):
    return sum("abcde".index(trial.suggest_categorical(name, tuple("abcde"))) for name in "xyz")


def constrained(trial):
    value = tuned(trial)
    trial.set_constraint("c", value - 4.0)
    return value


def both(trial):
    return tuned(trial), -tuned(trial)


def improvement(study):
    """The factor of the next trial's acquisition that is an expected improvement; None if none."""
    acquisition = unrestricted(study.sampler.inspect(study).acquisition)
    parts = getattr(acquisition, "factors", (acquisition,))
    return next((part for part in parts if isinstance(part, ExpectedImprovement)), None)


def improvements(objective, sampler, directions=("minimize",)):
    """Those of two trials in a row."""
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.optimize(objective, n_trials=13)
    first = improvement(study)
    study.optimize(objective, n_trials=1)
    return first, improvement(study)


def margins(objective, sampler):
    return [part.margin for part in improvements(objective, sampler)]


def test_every_other_trial_must_gain_a_margin():
    assert margins(tuned, FisherSampler(seed=0)) == [0.3, 0.0]
    assert margins(tuned, FisherSampler(seed=0, _options=AlgorithmOptions(margin=0.0))) == [0, 0]


@pytest.mark.parametrize("objective", [numbers, choices, constrained])
def test_no_margin_in_other_spaces_and_under_constraints(objective):
    assert margins(objective, FisherSampler(seed=0)) == [0.0, 0.0]


def test_no_margin_where_something_else_guides_the_search():
    rng = np.random.default_rng(0)
    rows = [
        {"rate": 10.0 ** rng.uniform(-5, 0), "units": int(rng.integers(4, 1024)), "kind": "a"}
        for _ in range(30)
    ]
    believed = {"rate": fisherbo.prior.LogNormal(RATE, 10.0)}
    assert margins(tuned, FisherSampler(seed=0, candidates=rows)) == [0.0, 0.0]
    assert margins(tuned, FisherSampler(seed=0, priors=believed)) == [0.0, 0.0]
    assert margins(tuned, FisherSampler(seed=0, cost="seconds")) == [0.0, 0.0]
    assert improvements(both, FisherSampler(seed=0), ("minimize", "minimize")) == (None, None)


def test_no_margin_while_another_trial_runs():
    study = optuna.create_study(sampler=FisherSampler(seed=0))
    study.optimize(tuned, n_trials=13)
    assert improvement(study).margin > 0
    for _ in range(2):
        tuned(study.ask())
    assert len(study.trials) % 2
    assert improvement(study).margin == 0


def test_a_margin_with_pruned_trials_too():
    def stopped(trial):
        value = tuned(trial)
        if trial.number == 4:
            trial.report(value, 1)
            raise optuna.TrialPruned
        return value

    assert margins(stopped, FisherSampler(seed=0)) == [0.3, 0.0]


def test_no_margin_where_what_makes_it_a_tuning_space_is_fixed():
    def with_a_number(trial):
        return tuned(trial) + trial.suggest_float("x", 0, 1) ** 2

    def late(trial):
        return with_a_number(trial) if trial.number < 9 else trial.suggest_float("x", 0, 1) ** 2

    assert margins(with_a_number, FisherSampler(seed=0)) == [0.3, 0.0]
    assert margins(late, FisherSampler(seed=0)) == [0.0, 0.0]


def test_the_acquisition_is_the_expected_gain_beyond_the_margin():
    found, without = improvements(tuned, FisherSampler(seed=0))
    x = np.concatenate([found.surrogate.x, np.random.default_rng(0).random((99, 3))])
    x = x[np.argsort(-found.value(x))[:9]]
    mean, sd = found.surrogate.predict(x)
    z = np.linspace(-9, 9, 100_001)[:, None]
    value = mean + np.hypot(sd, np.sqrt(found.noise)) * z
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    gain = np.trapezoid(np.maximum(value - found.best - 0.3, 0) * density, z, axis=0)
    assert np.exp(found.value(x)) == pytest.approx(gain, rel=1e-4)
    step = 1e-6 * np.eye(3)[1]
    slope = (found.value(x + step) - found.value(x - step)) / 2e-6
    assert found.evaluate(x).gradient[:, 1] == pytest.approx(slope, rel=1e-4)
    assert without.margin == 0


@pytest.mark.parametrize("seed", range(3))
def test_trials_with_a_margin_take_long_steps_and_the_others_refine(seed):
    study = optuna.create_study(sampler=FisherSampler(seed=seed, _options=EXPLORING))
    study.optimize(tuned, n_trials=40)
    best = study.best_trial
    late = [t for t in study.trials[20:] if t.params["kind"] == best.params["kind"]]
    length = {0: [], 1: []}
    for t in late:
        length[t.number % 2].append(abs(np.log10(t.params["rate"] / best.params["rate"])) / 5)
    assert np.median(length[1]) > 5 * np.median(length[0])


def test_what_the_next_trial_tells_is_relative_to_the_best_value():
    study = optuna.create_study(sampler=FisherSampler(seed=0, _options=EXPLORING))
    study.optimize(tuned, n_trials=21)
    seen, told = study.sampler.inspect(study), next_trial(study)
    mean, sd = seen.surrogate().predict(seen.next[None])
    best = seen.observations.warped[0].max()
    rng = np.random.default_rng(0)
    total = np.hypot(sd, np.sqrt(seen.surrogate().noise))
    share = (mean + total * rng.standard_normal(400_000) > best).mean()
    assert told.probability_of_improvement == pytest.approx(share, abs=0.005)
    assert "beyond a margin" in told.reason


def stopped_early(trial):
    rate = np.log10(trial.suggest_float("rate", 1e-5, 1.0, log=True) / RATE) ** 2
    size = trial.suggest_categorical("size", ["s", "m", "l"])
    for step in range(1, 11):
        trial.report(rate + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return rate + 0.1 * "sml".index(size)


def test_the_error_of_what_pruned_trials_are_taken_to_end_at_gains_no_margin():
    study = optuna.create_study(sampler=FisherSampler(seed=0), pruner=optuna.pruners.MedianPruner())
    study.optimize(stopped_early, n_trials=31)
    far = improvement(study)
    assert far.margin > 0
    assert far.surrogate.noise > 0
    assert far.noise == 0
    study.optimize(stopped_early, n_trials=1)
    near = improvement(study)
    assert near.margin == 0
    assert near.noise == near.surrogate.noise
    exact = improvements(tuned, FisherSampler(seed=0))[0]
    assert exact.margin > 0
    assert exact.noise == exact.surrogate.noise
