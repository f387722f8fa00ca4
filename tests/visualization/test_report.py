import json
import sys

import numpy as np
import optuna
import pytest

import fisherbo
from fisherbo.acquisition.log_ei import ExpectedImprovement
from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.gp.warp import unwarp
from fisherbo.sampler.next_trial import _factors, next_trial, rows
from fisherbo.visualization import report, save_to_dashboard
from fisherbo.visualization.notation import Notation
from fisherbo.visualization.trial_table import trial_table

OF_ONE = ["history", "posterior", "contour", "acquisition", "importance", "calibration", "steps",
          "parallel", "timeline"]  # fmt: skip


def test_report_of_a_study(study, tmp_path):
    found = report(study)
    assert list(found.figures) == OF_ONE
    assert found.left_out == {}
    summary = found.summary
    assert summary["trials"] == {"complete": 28, "pruned": 2}
    assert summary["best"]["value"] == study.best_value
    low, high = summary["recommended"]["interval"]
    assert low <= summary["recommended"]["value"] <= high
    json.dumps(summary)
    path = tmp_path / "new" / "page.html"
    found.write_html(path)
    text = path.read_text()
    for name in OF_ONE:
        assert f'id="{name}"' in text
    assert f"<td>trial</td><td>{study.best_trial.number}</td>" in text
    for part in ("Next trial", "How to read this", 'id="trials"', "Download as CSV"):
        assert part in text
    assert text.count("<script") < 2 * len(OF_ONE)  # plotly's own script is there once


def test_the_bound_of_the_regret_is_drawn_where_there_is_one():
    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))
    stop = fisherbo.StopWhenConverged(regret=1e-9)
    study.optimize(lambda t: t.suggest_float("x", 0, 1) ** 2, n_trials=13, callbacks=[stop])
    found = report(study)
    assert list(found.figures)[:2] == ["history", "regret"]
    assert 'id="regret"' in found.to_html()


def test_report_of_several_objectives(two_objectives):
    found = report(two_objectives)
    assert "front" in found.figures and "posterior_1" in found.figures
    assert found.left_out == {}
    assert len(found.summary["pareto_front"]) == len(two_objectives.best_trials)


def test_report_says_what_it_leaves_out():
    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0, n_startup_trials=3))
    study.optimize(lambda trial: trial.suggest_categorical("k", ["a", "b"]) == "a", n_trials=6)
    found = report(study)
    assert "two numeric parameters" in found.left_out["contour"]
    assert "Not drawn: contour, since params must be two numeric" in found.to_html()


def test_before_the_model_is_used_no_figure_of_it_is_drawn():
    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    found = report(study)
    assert list(found.figures) == ["history", "parallel", "timeline"]
    assert "initial design" in found.left_out["posterior"]
    assert "Initial design" in found.next.reason
    assert found.next.expected == ()
    assert found.next.params == study.ask(study.trials[0].distributions).params


def test_the_next_trial_is_the_one_that_is_asked_for(study):
    found = next_trial(study)
    distributions = {k: v for trial in study.trials for k, v in trial.distributions.items()}
    (expected,) = found.expected
    assert expected.low <= expected.median <= expected.high
    probability = found.probability_of_improvement
    kinds = ("Exploitation" if probability >= 0.5 else "Refinement", "Exploration")
    assert found.reason.startswith(kinds[0] if probability >= 0.4 else kinds[1])
    copy = optuna.create_study(sampler=study.sampler)
    copy.add_trials(study.trials)
    assert found.params == copy.ask(distributions).params


def test_improvement_is_what_draws_of_the_model_gain(study):
    """Against 200,000 draws of the posterior at the next trial, in the objective's units."""
    found = next_trial(study)
    seen = study.sampler.inspect(study)
    (factor,) = (f for f in _factors(seen.acquisition) if isinstance(f, ExpectedImprovement))
    observed = seen.observations
    mean, sd = factor.surrogate.predict(seen.next[None])
    z = np.random.default_rng(0).standard_normal(200_000)
    warped = np.append(mean + np.hypot(sd, np.sqrt(factor.noise)) * z, factor.best)
    *drawn, best = -unwarp(warped, observed.y[:, 0], observed.warped[0])  # it is minimised
    gain = np.maximum(best - np.array(drawn), 0)
    error = 5 * gain.std() / np.sqrt(len(z))
    assert abs(found.expected_improvement - gain.mean()) < error
    assert abs(found.probability_of_improvement - (gain > 0).mean()) < 0.01
    assert ["expected improvement", f"{found.expected_improvement:.2g}"] in rows(found, ["y"])


def test_next_trial_of_a_constrained_study_improves_on_a_feasible_value():
    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("ceiling", 0.5 - x)  # what is best is not feasible
        return x

    study.optimize(objective, n_trials=10)
    found = next_trial(study)
    assert 0 < found.probability_of_feasibility < 1
    assert 0 < found.expected_improvement < 0.1
    assert ["probability that all constraints hold", f"{found.probability_of_feasibility:.0%}"] in (
        rows(found, ["y"])
    )


def test_before_a_trial_is_feasible_there_is_no_improvement():
    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("never", 1 + x)
        return x

    study.optimize(objective, n_trials=14)
    found = next_trial(study)
    assert found.expected_improvement is None and found.probability_of_improvement is None
    assert found.reason.startswith("No trial meets all constraints yet")


def test_parameters_that_do_not_count_are_not_shown():
    study = optuna.create_study(sampler=fisherbo.FisherSampler(seed=0))

    def objective(trial):
        if trial.suggest_categorical("kind", ["a", "b"]) == "a":
            return trial.suggest_float("x", 0, 1)
        return 2 + trial.suggest_float("y", 0, 1)

    study.optimize(objective, n_trials=20)
    found = report(study)
    assert found.next.chosen.keys() == {"kind", "x"} and "y" in found.next.params
    shown = [axis.title.text for axis in found.figures["acquisition"].select_xaxes()]
    assert set(shown) == {"kind", "x"}


def test_names_of_the_search_become_those_of_readers(study):
    notation = Notation(
        lambda params: {**params, "lr": (1 - params["lr"], 0.5), "fixed": 3}, {"lr": "1 − lr"}
    )
    found = report(study, notation=notation)
    best = study.best_trial
    assert found.summary["best"]["params"]["lr"] == (1 - best.params["lr"], 0.5)
    assert "fixed" not in found.trials[0]  # it is the same in all trials
    cell = found.trials[1 + best.number][found.trials[0].index("lr")]
    assert cell == f"({1 - best.params['lr']:.6g}, 0.5)"
    titles = [axis.title.text for axis in found.figures["posterior"].select_xaxes()]
    assert "1 − lr" in titles and "lr" not in titles
    assert "1 − lr" in found.figures["importance"].data[0].y
    assert "1 − lr" in found.figures["parallel"].layout.xaxis.ticktext
    assert f"({1 - found.next.params['lr']:.6g}, 0.5)" in found.to_html()


def test_trials_tell_why_they_failed():
    study = optuna.create_study()

    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        if trial.number == 1:
            trial.set_user_attr("failure", "the loss is nan")
            raise ValueError
        return x

    study.optimize(objective, n_trials=3, catch=ValueError)
    head, *lines = trial_table(study)
    assert head == ["number", "state", "value", "seconds", "x", "reason"]
    assert [line[-1] for line in lines] == ["", "the loss is nan", ""]
    assert lines[0][2] == f"{study.trials[0].value:.6g}"


def test_report_of_a_study_without_a_complete_trial():
    with pytest.raises(InvalidInputError, match="must have a complete trial, got none"):
        report(optuna.create_study())


def test_report_of_a_training_study_shows_the_run():
    import torch

    x = torch.linspace(-1, 1, 32)[:, None]
    result = fisherbo.tune_training(
        lambda: torch.nn.Linear(1, 1),
        (x, x.sin()),
        loss="squared_error",
        n_trials=3,
        max_steps=5,
        seed=0,
    )
    run = report(result.study).figures["run"]
    assert run.data[0].name == "loss"
    assert "damping λ" in [trace.name for trace in run.data]


def test_dashboard_attributes_hold_the_figures_and_the_note(tmp_path):
    storage = f"sqlite:///{tmp_path}/study.db"
    sampler = fisherbo.FisherSampler(seed=0)
    study = optuna.create_study(storage=storage, sampler=sampler)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=12)
    save_to_dashboard(study)
    save_to_dashboard(study)  # overwrites
    attributes = study._storage.get_study_system_attrs(study._study_id)
    assert any("fisherbo-posterior" in key for key in attributes)
    assert not any("fisherbo-history" in key for key in attributes)
    assert any("recommended" in str(value) for key, value in attributes.items() if "note" in key)


def test_without_the_dashboard_the_extra_is_named(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(MissingExtraError, match=r"fisherbo\[dashboard\]"):
        save_to_dashboard(study)
