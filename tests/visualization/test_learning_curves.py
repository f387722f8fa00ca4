"""The figure of learning curves shows every trial, and what was predicted of the stopped ones."""

import math

import optuna
import pytest

from fisherbo import FisherPruner
from fisherbo.errors import InvalidInputError
from fisherbo.sampler.pruner import PREDICTED_END, PREDICTED_INTERVAL
from fisherbo.visualization import plot_learning_curves
from fisherbo.visualization.learning_curves import predicted_ends


@pytest.fixture(scope="module")
def study():
    def learning(trial):
        end = trial.suggest_float("x", 0, 1)
        for step in range(12):
            trial.report(end + math.exp(-step), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return end

    found = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0), pruner=FisherPruner()
    )
    found.optimize(learning, n_trials=15)
    return found


def test_each_trial_has_its_curve_and_its_predicted_end(study):
    ends = predicted_ends(study)
    assert [e.number for e in ends] == list(range(15))
    for end, trial in zip(ends, study.trials, strict=True):
        assert dict(zip(end.steps, end.reports, strict=True)) == trial.intermediate_values
        assert end.end == trial.user_attrs.get(PREDICTED_END)
        assert [end.low, end.high] == trial.user_attrs.get(PREDICTED_INTERVAL, [None, None])


def test_the_figure_shows_stopped_trials_at_their_predicted_ends(study):
    traces = {trace.name: trace for trace in plot_learning_curves(study).data}
    assert {"pruned", "complete", "best", "predicted end, 95 %"} == set(traces)
    pruned = study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
    shown = traces["predicted end, 95 %"]
    assert list(shown.y) == [t.user_attrs[PREDICTED_END] for t in pruned]
    assert set(shown.x) == {11}
    low, high = zip(*(t.user_attrs[PREDICTED_INTERVAL] for t in pruned), strict=True)
    assert [a + b for a, b in zip(shown.y, shown.error_y.array, strict=True)] == pytest.approx(high)
    expected = [a - b for a, b in zip(shown.y, shown.error_y.arrayminus, strict=True)]
    assert expected == pytest.approx(low)
    best = study.best_trial
    assert [v for v in traces["best"].y if v is not None] == list(best.intermediate_values.values())


def test_a_study_without_reports_has_no_such_figure():
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(InvalidInputError, match=r"trial\.report"):
        plot_learning_curves(study)
    with pytest.raises(InvalidInputError, match="one objective"):
        plot_learning_curves(optuna.create_study(directions=["minimize", "minimize"]))
