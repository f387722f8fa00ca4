import inspect
import sys

import numpy as np
import optuna
import pytest

import fisherbo.visualization
from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.training import TracePoint
from fisherbo.visualization import (
    CONTOUR_TRIALS,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_regret_bound,
    plot_response_map,
    plot_training_trace,
)

TRACE = tuple(TracePoint(5 * k, 10 / (k + 1), 0.1 * k) for k in range(6))


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-3, 1, log=True)
        damping = trial.suggest_float("damping", 1e-4, 1, log=True)
        momentum = trial.suggest_float("momentum", 0, 1)
        if trial.number == 3:
            raise optuna.TrialPruned
        if trial.number == 4:
            raise ArithmeticError
        return lr + damping + momentum

    study.optimize(objective, n_trials=CONTOUR_TRIALS + 2, catch=(ArithmeticError,))
    return study


def texts(figure):
    return (
        figure.layout.title.text,
        figure.layout.xaxis.title.text,
        figure.layout.yaxis.title.text,
    )


def test_training_trace_against_steps_and_seconds():
    traces = {"kfac": TRACE, "adam": TRACE[:3]}
    figure = plot_training_trace(traces, metric="excess", target=3.0)
    assert texts(figure) == ("Excess against steps, best runs", "steps", "excess / nats")
    assert [line.name for line in figure.data] == ["kfac", "adam"]
    assert list(figure.data[0].x) == [5, 10, 15, 20, 25]  # step 0 has no place on a log axis
    assert figure.data[0].line.color != figure.data[1].line.color
    seconds = plot_training_trace(traces, against="cpu_seconds")
    assert seconds.layout.xaxis.title.text == "CPU seconds"
    assert list(seconds.data[1].x) == [0.1, 0.2]


def test_training_trace_of_a_negative_loss_is_linear():
    figure = plot_training_trace({"adam": (TracePoint(1, -2.0, 0.1),)})
    assert figure.layout.yaxis.type == "linear"


def test_training_trace_refuses_another_axis():
    with pytest.raises(InvalidInputError, match="'steps' or 'cpu_seconds', got 'epochs'"):
        plot_training_trace({}, against="epochs")


def test_optimization_history_is_the_running_minimum(study):
    figure = plot_optimization_history({"kfac": study}, target_name="log10(steps)")
    points, line = figure.data
    assert [min(points.y[: k + 1]) for k in range(len(points.y))] == list(line.y)
    assert list(points.x) == [t.number for t in study.trials if t.state.name == "COMPLETE"]
    assert texts(figure)[1:] == ("trial number", "log10(steps)")


def test_mean_of_several_histories():
    studies = []
    for seed in range(3):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=8)
        studies.append(study)
    best = [np.minimum.accumulate([trial.value for trial in study.trials]) for study in studies]
    shown, mean = plot_optimization_history(studies, error_bar=True).data
    np.testing.assert_allclose(mean.y, np.mean(best, 0))
    top = np.array(shown.y)[:8]
    np.testing.assert_allclose(top, np.mean(best, 0) + np.std(best, 0))
    assert len(plot_optimization_history(studies).data) == 6


def test_infeasible_trials_are_never_the_best():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("ceiling", 0.5 - x)
        return x

    study.optimize(objective, n_trials=20)
    _, infeasible, best = plot_optimization_history(study).data
    assert "infeasible" in infeasible.name and max(infeasible.y) < 0.5
    assert best.y[-1] == study.best_value > 0.5


@pytest.mark.parametrize(
    "name", ["plot_optimization_history", "plot_parallel_coordinate", "plot_param_importances"]
)
def test_signatures_begin_as_optuna_s(name):
    ours = inspect.signature(getattr(fisherbo.visualization, name)).parameters
    optunas = inspect.signature(getattr(optuna.visualization, name)).parameters
    assert set(ours) >= set(optunas)
    positional = [key for key, p in optunas.items() if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert [key for key, p in ours.items() if p.kind == p.POSITIONAL_OR_KEYWORD] == positional


def test_response_map_has_a_contour_and_every_trial(study):
    figure = plot_response_map(study, title="map")
    assert [trace.type for trace in figure.data] == ["contour", *["scatter"] * 3]
    assert [len(trace.x) for trace in figure.data[1:]] == [1, 1, CONTOUR_TRIALS]
    assert texts(figure) == ("map", "lr", "damping")
    assert figure.layout.xaxis.type == "log"
    values = [trial.value for trial in study.trials if trial.value is not None]
    assert min(values) <= figure.data[0].z.min() <= figure.data[0].z.max() <= max(values)
    linear = plot_response_map(study, ("lr", "momentum"))
    assert linear.layout.yaxis.type == "linear"


def test_response_map_of_few_trials_is_a_scatter(study):
    few = optuna.create_study()
    few.add_trials(study.trials[:3])
    assert [trace.type for trace in plot_response_map(few).data] == ["scatter"] * 3


def test_response_map_of_unknown_parameters(study):
    with pytest.raises(InvalidInputError, match=r"has the parameters \('lr', 'beta'\)"):
        plot_response_map(study, ("lr", "beta"))


def test_parallel_coordinate_has_the_title(study):
    assert plot_parallel_coordinate(study, title="all").layout.title.text == "all"


def test_without_plotly_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingExtraError, match=r"fisherbo\[plot\]"):
        plot_training_trace({"kfac": TRACE})


def test_the_bound_of_the_regret_is_a_line_for_each_probability():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    stops = [fisherbo.StopWhenConverged(regret=1e-9, probability=p) for p in (0.8, 0.95)]
    study.optimize(lambda t: t.suggest_float("x", 0, 1) ** 2, n_trials=14, callbacks=stops)
    figure = plot_regret_bound(study, target=0.01)
    low, high = figure.data
    assert (low.name, high.name) == ("with 80% probability", "with 95% probability")
    assert list(low.x) == list(high.x) == [9, 10, 11, 12, 13]
    assert (np.array(low.y) <= np.array(high.y)).all()
    assert low.y[-1] == stops[0].remaining_regret(study).bound(0.8)
    assert figure.layout.shapes[0].y0 == 0.01


def test_without_a_bound_of_the_regret_there_is_no_figure(study):
    with pytest.raises(InvalidInputError, match="StopWhenConverged among its callbacks"):
        plot_regret_bound(study)
