"""K-FAC's comparison: its problems are what they say, and its statistics are right."""

import math

import numpy as np
import pytest
import torch

from experiments import kfac, networks
from experiments.harness import rows
from fisherbo.training import KFAC


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Rows and reports go here."""
    monkeypatch.setattr(rows, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(rows, "REPORTS", tmp_path / "results")
    return tmp_path


@pytest.mark.parametrize("name", networks.PROBLEMS)
def test_a_problem_has_seeded_networks_that_kfac_covers_and_a_loss_above_its_offset(name):
    problem = networks.PROBLEMS[name]()
    x, y = problem.data
    model, same, other = problem.build(1), problem.build(1), problem.build(2)
    weights = [torch.nn.utils.parameters_to_vector(m.parameters()) for m in (model, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    excess = problem.loss.function(model(x[:50]), y[:50]).item() - problem.offset
    assert excess > (problem.target or 0)
    optimizer = KFAC(model, likelihood=problem.loss.likelihood)
    assert optimizer.coverage().share == 1.0


def test_a_curve_goes_through_its_end_points():
    images = networks.curves(20, 14, seed=3)
    generator = torch.Generator().manual_seed(3)
    ends = torch.rand(20, 3, 2, generator=generator)[:, [0, 2]] * 11 + 1
    assert images.shape == (20, 196)
    assert 0 <= images.min() and images.max() <= 1
    rounded = ends.round().long()
    ink = images.reshape(20, 14, 14)[torch.arange(20)[:, None], rounded[..., 0], rounded[..., 1]]
    assert ink.min() >= math.exp(-0.5)  # a pixel's centre is at most √½ from the end


def test_the_running_sum_is_one():
    x, y = networks.sequence_transformer().data
    assert torch.equal(y[:, 0], x[:, 0])
    assert torch.equal((y[:, 1:] - y[:, :-1]) % networks.SYMBOLS, x[:, 1:])


def test_a_run_is_read_at_its_first_step_below_the_target():
    run = {"step": [0, 5, 10], "seconds": [0.0, 0.5, 1.0], "loss": [4.0, 3.0, 2.0]}
    assert kfac.steps_and_seconds(run, 3.0) == (5.0, 0.5)
    assert kfac.steps_and_seconds(run, 1.0) == (math.inf, math.inf)
    assert kfac.loss_at(run, 0.9) == 3.0
    assert kfac.loss_at({"step": [], "seconds": [], "loss": []}, 0.9) == math.inf


def test_a_ratio_of_medians_has_an_interval_that_holds_it():
    mine, theirs = np.array([1.0, 2.0, 3.0, 2.0, 2.0]), np.array([20.0, 30.0, 10.0, 25.0, 22.0])
    middle, low, high = kfac.ratio_interval(mine, theirs)
    assert middle == 11.0
    assert low < middle < high
    assert kfac.ratio(mine, np.array([1, 2, np.inf, np.inf, np.inf])) == math.inf
    assert math.isnan(kfac.ratio(np.full(3, np.inf), np.full(3, np.inf)))


def test_all_of_it_runs_on_a_small_problem(folder, monkeypatch, capsys):
    x = torch.rand(30, 6, generator=torch.Generator().manual_seed(0))
    small = networks.Problem(
        lambda seed: networks.autoencoder(6, (5, 2), seed=seed),
        (x, x),
        networks.LOSSES["bernoulli"],
        target=4.5,
        seconds=5.0,
        max_steps=40,
    )
    monkeypatch.setattr(kfac, "PROBLEMS", {"small": lambda: small})
    command = ["--trials", "2", "--seeds", "2", "--workers", "1", "--rounds", "1", "--write"]
    kfac.main([*command, "--problems", "small", "--optimizers", "K-FAC", "Adam"])
    printed = capsys.readouterr().out
    assert "K-FAC / Adam" in printed
    assert (folder / "results" / "kfac.md").read_text().count("of 2") >= 2
    assert (folder / "runs" / "kfac.html").exists()
    kept = rows.load(folder / "runs" / "kfac.jsonl")
    assert sum(key.startswith("tuning/") for key in kept) == 2
    assert sum(key.startswith("training/") for key in kept) == 4


def test_a_run_that_leaves_the_finite_numbers_is_a_row():
    cell = kfac.Training("transformer", "SGD", 0, (("lr", 1e30), ("one_minus_momentum", 0.5)))
    assert "not finite" in kfac.train(cell)["failed"] or "is nan" in kfac.train(cell)["failed"]
