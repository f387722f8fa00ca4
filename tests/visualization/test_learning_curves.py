"""The figure of learning curves shows every trial, and what was predicted of the stopped ones."""

import math

import optuna
import pytest

from fisherbo import FisherPruner, report, should_prune
from fisherbo.errors import InvalidInputError
from fisherbo.sampler.pruner import PREDICTED_END, PREDICTED_INTERVAL
from fisherbo.sampler.reports import reports_of
from fisherbo.visualization import plot_learning_curves
from fisherbo.visualization.learning_curves import predicted_ends
from fisherbo.visualization.report import report as report_of


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
    with pytest.raises(InvalidInputError, match=r"fisherbo\.report"):
        plot_learning_curves(optuna.create_study(directions=["minimize", "minimize"]))


@pytest.fixture(scope="module")
def several():
    def learning(trial):
        x = trial.suggest_float("x", 0, 1)
        for step in range(12):
            loss = x + math.exp(-step)
            report(trial, {"loss": loss, "cost": (1 - x) ** 2, "accuracy": 1 - loss}, step)
            if should_prune(trial):
                raise optuna.TrialPruned
        return loss, (1 - x) ** 2

    found = optuna.create_study(
        directions=["minimize", "minimize"],
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=FisherPruner(),
    )
    found.optimize(learning, n_trials=12)
    return found


def test_each_objective_has_its_figure_with_its_predicted_ends(several):
    stopped = [t for t in several.trials if PREDICTED_END in t.user_attrs and t.values is None]
    assert stopped
    for j, name in enumerate(("loss", "cost")):
        figure = plot_learning_curves(several, objective=j)
        assert figure.layout.yaxis.title.text == name
        traces = {trace.name: trace for trace in figure.data}
        shown = traces["predicted end, 95 %"]
        assert list(shown.y) == [t.user_attrs[PREDICTED_END][j] for t in stopped]
        assert "not dominated with probability" in shown.text[0]
        front = [t for t in several.trials if t in several.best_trials]
        ends = [y for y, after in zip(*(traces["Pareto front"].y[k:] for k in (0, 1)), strict=False)
                if after is None]  # fmt: skip
        assert ends == [t.values[j] for t in front]
    with pytest.raises(InvalidInputError, match="one of the study's 2"):
        plot_learning_curves(several, objective=2)


def test_further_metrics_have_figures_without_predicted_ends(several):
    figure = plot_learning_curves(several, metric="accuracy")
    assert figure.layout.yaxis.title.text == "accuracy"
    assert {trace.name for trace in figure.data} == {"pruned", "complete"}
    with pytest.raises(InvalidInputError, match="reported 'f1', got none; known are accuracy"):
        plot_learning_curves(several, metric="f1")


def test_the_report_shows_them_all(several):
    found = report_of(several)
    assert {"intermediate_0", "intermediate_1", "metric_0"} <= set(found.figures)
    page = found.to_html()
    assert "they report" not in page and "No decision depends on it" in page
    pruned = next(t for t in several.trials if t.state.name == "PRUNED")
    last = max(reports_of(pruned, 2)[0])
    row = found.trials[pruned.number + 1]
    assert float(row[2]) == pytest.approx(reports_of(pruned, 2)[0][last], rel=1e-3)
