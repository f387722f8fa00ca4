"""Figures of the model against the model itself."""

import sys

import numpy as np
import optuna
import pytest
from optuna.importance import get_param_importances
from scipy.stats import norm

import fisherbo
from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.gp.fisher import damped_metric
from fisherbo.gp.hyper import Hyper
from fisherbo.gp.posterior import condition
from fisherbo.sampler.options import AlgorithmOptions
from fisherbo.visualization import (
    LengthscaleImportanceEvaluator,
    plot_acquisition_slice,
    plot_calibration,
    plot_kl_steps,
    plot_param_importances,
    plot_posterior_contour,
    plot_posterior_slice,
)
from fisherbo.visualization.calibration import LeaveOneOut, leave_one_out
from fisherbo.visualization.contour import climb
from fisherbo.visualization.steps import kl_steps

RNG = np.random.default_rng(0)


def named(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def titled(figure):
    """Whether the figure has a title and every axis has one."""
    layout = figure.to_dict()["layout"]
    axes = [layout[key] for key in layout if key.startswith(("xaxis", "yaxis"))]
    return bool(layout["title"]["text"]) and any("title" in axis for axis in axes)


def test_every_figure_has_titles(study):
    for plot in (
        plot_posterior_slice,
        plot_acquisition_slice,
        plot_posterior_contour,
        plot_calibration,
        plot_param_importances,
        plot_kl_steps,
    ):
        assert titled(plot(study)), plot.__name__


def test_posterior_slice_passes_through_the_best_point(study):
    figure = plot_posterior_slice(study, params=["x"])
    (median,) = named(figure, "median")
    (band,) = named(figure, "95% band")
    seen = study.sampler.inspect(study)
    best = seen.params(seen.best())
    here = seen.quantiles(seen.best()[None], np.zeros(1))[0, 0]
    at = np.interp(best["x"], median.x, median.y)
    assert abs(at - here) < 0.3
    low, high = band.y[len(median.y) :][::-1], band.y[: len(median.y)]
    assert all(a <= b <= c for a, b, c in zip(low, median.y, high, strict=True))
    (trials,) = named(figure, "trials")
    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert set(trials.x) >= {trial.params["x"] for trial in finished}
    assert 0.1 <= min(trials.marker.opacity) < 0.5 < max(trials.marker.opacity) <= 1


def test_posterior_slice_of_each_kind_of_parameter(study):
    figure = plot_posterior_slice(study, params=["kind", "n", "lr"])
    axes = [figure.layout.xaxis.type, figure.layout.xaxis2.type, figure.layout.xaxis3.type]
    assert axes == ["category", "linear", "log"]
    medians = named(figure, "median") + named(figure, "median, 95%")
    ticks = {tuple(trace.x) for trace in medians}
    assert ("a", "b", "None") in ticks
    assert tuple(range(1, 21)) in ticks


def test_slice_of_unknown_names(study):
    with pytest.raises(InvalidInputError, match="must name parameters that vary, got 'y'"):
        plot_posterior_slice(study, params=["y"])
    with pytest.raises(InvalidInputError, match="objective must be 0 to 0, got 2"):
        plot_posterior_slice(study, objective=2)


def test_acquisition_slice_peaks_at_the_next_trial(study):
    nowhere_kept_away = AlgorithmOptions(stalls=False)
    sampler = fisherbo.FisherSampler(seed=0, _options=nowhere_kept_away)
    figure = plot_acquisition_slice(study, params=["x", "lr"], sampler=sampler)
    for line, star in zip(named(figure, "acquisition"), named(figure, "next trial"), strict=True):
        assert max(line.y) <= star.y[0] + 0.05


def test_acquisition_slice_before_the_model_is_used():
    independent = optuna.samplers.RandomSampler(seed=0)
    sampler = fisherbo.FisherSampler(seed=0, independent_sampler=independent)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with pytest.raises(InvalidInputError, match="run more trials than n_startup_trials"):
        plot_acquisition_slice(study)


def test_contour_shows_the_posterior_the_metric_and_both_ascents(study):
    figure = plot_posterior_contour(study, params=("x", "lr"))
    seen = study.sampler.inspect(study)
    contour = figure.data[0]
    middle = seen.best().copy()
    names = list(seen.search_space)
    middle[[names.index("x"), names.index("lr")]] = 0.5
    here = seen.quantiles(middle[None], np.zeros(1))[0, 0]
    assert contour.z[30][30] == pytest.approx(here)
    assert contour.y[30] == pytest.approx(10**-2.5)
    assert len(named(figure, "natural gradient")) == len(named(figure, "Euclidean gradient")) == 3
    (ellipses,) = (t for t in figure.data if t.name.startswith("Fisher metric: "))
    outline = np.stack([(np.array(ellipses.x) + 5) / 10, np.log10(ellipses.y) / 5 + 1], -1)[:41]
    point = np.full((1, 4), 0.0) + seen.best()
    plane = [names.index("x"), names.index("lr")]
    point[0, plane] = 0.1
    metric = damped_metric(seen.surrogate(), point, 0.3)[0][np.ix_(plane, plane)]
    step = outline - 0.1
    half = 0.5 * np.einsum("ai,ij,aj->a", step, metric, step)
    nats = float(ellipses.name.split()[2])
    uncut = np.linalg.norm(step, axis=1) < 0.099
    np.testing.assert_allclose(half[uncut], nats, rtol=0.06)
    assert figure.layout.yaxis.type == "log"


def test_contour_shows_the_axes_of_a_rotated_kernel(study):
    def valley(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        return (x + y - 0.9) ** 2 + 1e-2 * (x - y - 0.2) ** 2

    turned = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))
    turned.optimize(valley, n_trials=30)
    figure = plot_posterior_contour(turned, params=("x", "y"))
    (axes,) = (t for t in figure.data if t.name.startswith("kernel's axes: "))
    seen = turned.sampler.inspect(turned)
    hyper = seen.surrogate().hyper
    arms = np.diff(np.stack([axes.x, axes.y], 1).reshape(2, 3, 2)[:, :2], axis=1)[:, 0] / 2
    share = float(axes.name.split()[2])
    order = np.argsort(-hyper.lengthscale)
    for arm, j in zip(arms, order, strict=True):
        length = np.linalg.norm(arm)
        assert length == pytest.approx(share * hyper.lengthscale[j], rel=0.06)
        assert abs(arm @ hyper.rotation[j]) == pytest.approx(length, rel=1e-6)
    assert abs(arms[0] @ [1, -1]) / np.linalg.norm(arms[0]) > 1.3  # the valley's own direction
    middle = np.array([axes.x[:2], axes.y[:2]]).mean(1)
    assert middle == pytest.approx(seen.best())
    plain = plot_posterior_contour(study, params=("x", "lr"))
    if study.sampler.inspect(study).surrogate().hyper.rotation is None:
        assert not [t for t in plain.data if t.name.startswith("kernel's axes")]
    off = fisherbo.FisherSampler(seed=0, rotation=False)
    unrotated = plot_posterior_contour(turned, off, params=("x", "y"))
    assert not [t for t in unrotated.data if t.name.startswith("kernel's axes")]


def test_contour_of_parameters_that_are_not_numeric(study):
    with pytest.raises(InvalidInputError, match="must be numeric, got the categorical 'kind'"):
        plot_posterior_contour(study, params=("x", "kind"))
    single = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))
    single.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    with pytest.raises(InvalidInputError, match="must be two numeric parameters"):
        plot_posterior_contour(single)


@pytest.mark.parametrize("euclidean", [True, False])
def test_climbs_go_up_and_stay_in_the_plane(study, euclidean):
    seen = study.sampler.inspect(study)
    movable = np.array([name in ("x", "lr") for name in seen.search_space])
    start = np.full(4, 0.5)
    path = climb(seen.acquisition, start, movable, euclidean=euclidean)
    heights = seen.acquisition.value(path[1:])
    assert (np.diff(heights) > 0).all()
    assert (path[:, ~movable] == 0.5).all()
    assert len(path) > 2


def test_leave_one_out_is_what_leaving_one_out_gives():
    x, y = RNG.random((12, 2)), RNG.standard_normal(12)
    hyper, choices = Hyper(np.array([0.3, 0.5]), 1.3, 0.05), np.zeros(2, dtype=np.int64)
    found = leave_one_out(condition(x, y, choices, hyper, constant=-0.5))
    for i in range(12):
        rest = np.arange(12) != i
        without = condition(x[rest], y[rest], choices, hyper, constant=-0.5)
        mean, sd = without.predict(x[i : i + 1])
        assert found.mean[i] == pytest.approx(mean[0], abs=1e-9)
        assert found.sd[i] == pytest.approx(np.sqrt(sd[0] ** 2 + 0.05), abs=1e-9)


def test_coverage_of_a_model_that_is_right():
    z = norm.ppf((np.arange(2000) + 0.5) / 2000)
    found = LeaveOneOut(z, np.zeros(2000), np.ones(2000))
    levels = np.array([0.1, 0.5, 0.95])
    np.testing.assert_allclose(found.coverage(levels), levels, atol=2e-3)
    overconfident = LeaveOneOut(2 * z, np.zeros(2000), np.ones(2000))
    assert overconfident.coverage(np.array(0.95)) < 0.7


def test_calibration_needs_our_posterior(study):
    from botorch.models import SingleTaskGP

    with pytest.raises(InvalidInputError, match="pass FisherSampler\\(\\) without surrogate="):
        plot_calibration(study, fisherbo.FisherSampler(seed=0, surrogate=SingleTaskGP))


def lopsided(count=30):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def objective(trial):
        x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
        trial.set_user_attr("other", np.sin(12 * y))
        return np.sin(12 * x)

    study.optimize(objective, n_trials=count)
    return study


def test_importance_is_of_what_matters():
    study, evaluator = lopsided(), LengthscaleImportanceEvaluator()
    found = get_param_importances(study, evaluator=evaluator)
    assert list(found) == ["x", "y"]
    assert found["x"] > 0.8
    assert sum(found.values()) == pytest.approx(1)
    other = evaluator.evaluate(study, target=lambda trial: trial.user_attrs["other"])
    assert other["y"] > 0.8
    assert evaluator.evaluate(study, ["x"]) == {"x": 1.0}
    figure = plot_param_importances(study)
    assert list(figure.data[0].y) == ["y", "x"]


def test_importance_that_cannot_be_told(two_objectives):
    evaluator = LengthscaleImportanceEvaluator()
    with pytest.raises(InvalidInputError, match="target must be given"):
        evaluator.evaluate(two_objectives)
    with pytest.raises(InvalidInputError, match=r"params must vary in the study, got \['z'\]"):
        evaluator.evaluate(lopsided(12), ["z"])


def test_kl_steps_are_those_of_models_of_the_trials_before(study):
    seen = study.sampler.inspect(study)
    numbers, steps = kl_steps(seen)
    data, surrogate = seen.observations, seen.surrogate()
    from torch.distributions import Normal, kl_divergence

    from fisherbo.gp.warp import warp

    y, t = warp(data.y[:, 0]), 11
    hyper = Hyper(seen.lengthscale(), surrogate.variance, surrogate.noise)
    before = condition(data.x[:t], y[:t], seen.space.choices, hyper)
    best = int(np.argmax(before.mean(data.x[:t])))
    mean, sd = before.predict(data.x[[best, t]])
    import torch

    one, other = (
        Normal(torch.tensor(m), torch.tensor(np.sqrt(s**2 + surrogate.noise)))
        for m, s in zip(mean, sd, strict=True)
    )
    assert steps[t - 1] == pytest.approx(float(kl_divergence(one, other)), rel=1e-6)
    assert list(numbers) == seen.table.number[data.row[1:]].tolist()
    assert len(plot_kl_steps(study).data[0].x) == 27


def test_without_plotly_the_extra_is_named(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    for plot in (plot_posterior_slice, plot_posterior_contour, plot_calibration, plot_kl_steps):
        with pytest.raises(MissingExtraError, match=r"fisherbo\[plot\]"):
            plot(study)
