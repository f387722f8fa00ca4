"""Studies of policies: what they are of, how they resume, what decides, what they refuse."""

import numpy as np
import optuna
import pytest

import fisherbo
from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.tuning import policy
from fisherbo.tuning.policy import SPACE, tune_policy

SMALL = {"steps": 128, "episodes": 2, "n_envs": 2, "rollout": 32, "hidden": (8,)}


def test_a_study_of_real_runs_is_repeated_and_resumed(tmp_path):
    whole = tune_policy("CartPole-v1", n_trials=4, **SMALL)
    file = str(tmp_path / "policies.db")
    tune_policy("CartPole-v1", n_trials=2, storage=file, **SMALL)
    resumed = tune_policy("CartPole-v1", n_trials=4, storage=file, **SMALL)
    values = [[t.value for t in r.study.trials] for r in (whole, resumed)]
    assert values[0] == values[1] and len(values[0]) == 4
    assert [t.params for t in whole.study.trials] == [t.params for t in resumed.study.trials]
    assert whole.settings.keys() == SPACE.keys()
    result = fisherbo.rl.train("CartPole-v1", steps=64, n_envs=2, rollout=32, **whole.settings)
    assert result.settings.max_kl == whole.settings["max_kl"]
    with pytest.raises(InvalidInputError, match="made otherwise: run_steps was 128, is 256"):
        tune_policy("CartPole-v1", n_trials=4, storage=file, **{**SMALL, "steps": 256})


def test_trials_report_their_first_run_and_a_pruner_may_stop_them():
    class EveryOther(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number % 2 == 1 and max(trial.intermediate_values) >= 128

    settings = {**SMALL, "steps": 192}
    whole = tune_policy("CartPole-v1", n_trials=3, runs=2, **settings).study.trials
    study = tune_policy("CartPole-v1", n_trials=3, runs=2, pruner=EveryOther(), **settings).study
    trials = study.trials
    assert [t.state.name for t in trials] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert set(whole[1].intermediate_values) == {64, 128, 192}
    assert trials[1].intermediate_values == {
        step: v for step, v in whole[1].intermediate_values.items() if step <= 128
    }
    assert trials[0].value == whole[0].value
    seed = int(np.random.SeedSequence([0, 0]).generate_state(2)[0])
    run = fisherbo.rl.train("CartPole-v1", seed=seed, **whole[0].params, **train_settings(settings))
    reported = whole[0].intermediate_values[192]
    assert reported == pytest.approx(np.mean(run.returns[-100:]))


def train_settings(settings):
    return {name: value for name, value in settings.items() if name != "episodes"}


def test_the_recommendation_is_the_best_posterior_mean_not_the_luckiest(monkeypatch):
    """The worth is −(log10(δ) + 2)²·100 with noise of deviation 25, and one run is lucky."""
    rng = np.random.default_rng(0)
    calls = []

    def lucky(environment, *, max_kl, **settings):
        calls.append(settings["seed"])
        noise = 120.0 if len(calls) == 3 else 25 * rng.normal()
        return -100 * (np.log10(max_kl) + 2) ** 2 + noise

    monkeypatch.setattr(policy, "train", lucky)
    monkeypatch.setattr(policy, "_worth", lambda result, environment, episodes: result)
    tuning = tune_policy("CartPole-v1", n_trials=30)
    assert len(set(calls)) == 30
    found = tuning.settings["max_kl"]
    assert abs(np.log10(found) + 2) < 0.35
    assert tuning.recommendation.low <= tuning.recommendation.value <= tuning.recommendation.high


def test_a_run_that_diverges_is_a_failed_trial(monkeypatch):
    def half(environment, *, seed, **settings):
        if seed % 2:
            raise DivergedError("no")
        return 1.0 + settings["max_kl"]

    monkeypatch.setattr(policy, "train", half)
    monkeypatch.setattr(policy, "_worth", lambda result, environment, episodes: result)
    tuning = tune_policy("CartPole-v1", n_trials=8)
    states = {trial.state for trial in tuning.study.trials}
    assert states == {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL}
    assert len(tuning.study.trials) == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_trials": 0}, "n_trials must be >= 1"),
        ({"runs": 0}, "runs must be >= 1"),
        ({"damping": 0.1}, "damping must be left to the study"),
        ({"gama": 0.1}, "unknown setting 'gama'"),
    ],
)
def test_bad_arguments_are_refused(settings, message):
    with pytest.raises(InvalidInputError, match=message):
        fisherbo.tune_policy("CartPole-v1", **settings)
