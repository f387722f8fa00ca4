"""Workloads of the minibatch experiments, and what is read off their curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from experiments import development, minibatch
from experiments.workloads import DEVELOPMENT, HELD_OUT, REPORTED, WINDOW, smoothed, train
from fisherbo.training import KFAC

WORKLOADS = {**DEVELOPMENT, **HELD_OUT, **REPORTED}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_is_repeatable_and_takes_a_step(name: str) -> None:
    workload = WORKLOADS[name]()
    x, y = workload.batch(3, 1)
    again = workload.batch(3, 1)
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])
    model, other = workload.build(5), workload.build(5)
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    optimizer = KFAC(model, likelihood=workload.likelihood)
    loss = workload.loss(model(x), y)
    loss.backward()
    optimizer.step()
    assert math.isfinite(loss.item())
    assert any(
        not torch.equal(*pair) for pair in zip(model.parameters(), other.parameters(), strict=True)
    )


def test_the_networks_of_the_report_are_none_on_which_defaults_were_chosen() -> None:
    assert not REPORTED.keys() & (DEVELOPMENT.keys() | HELD_OUT.keys())


def test_losses_are_means_over_the_window() -> None:
    losses = np.arange(30.0)
    assert smoothed(losses)[0] == losses[:WINDOW].mean()
    assert smoothed(losses)[-1] == losses[-WINDOW:].mean()
    assert smoothed(losses[:4]).tolist() == [1.5]


def test_a_run_that_fails_ends_with_infinity() -> None:
    workload = DEVELOPMENT["softmax 64"]()

    def broken(model: torch.nn.Module) -> KFAC:
        torch.nn.init.constant_(next(model.parameters()), math.nan)
        return KFAC(model, likelihood="categorical")

    losses, _ = train(workload, broken, 0)
    assert not math.isfinite(losses[-1])
    assert len(losses) == 1


def test_targets_are_read_off_the_smoothed_curve() -> None:
    row = {"losses": [10.0 - 0.1 * k for k in range(100)], "seconds": [0.5 * k for k in range(100)]}
    steps, seconds = minibatch.reached(row, 5.0)
    assert smoothed(row["losses"][: int(steps) + 1])[-1] <= 5.0 + 1e-9
    assert smoothed(row["losses"][: int(steps)])[-1] > 5.0
    assert seconds == 0.5 * steps
    assert minibatch.reached(row, -1.0) == (math.inf, math.inf)
    assert minibatch.loss_at(row, 0.5 * steps) == pytest.approx(5.0, abs=0.1)
    assert development.first_at(np.array([3.0, 2.0, 1.0]), 2.0) == 2


def test_every_optimizer_builds_by_itself_and_at_a_point_of_its_space() -> None:
    workload = REPORTED["digits, MLP"]()
    for name, kind in minibatch.OPTIMIZERS.items():
        if name in ("SOAP", "Shampoo"):
            pytest.importorskip("pytorch_optimizer")
        middle = {key: math.sqrt(ends.low * ends.high) for key, ends in kind.space.items()}
        assert kind.defaults.keys() == middle.keys()
        for settings in ({}, middle, kind.defaults):
            model = workload.build(0)
            optimizer = kind.build(model, workload, settings)
            optimizer.zero_grad()
            x, y = workload.batch(0, 0)
            workload.loss(model(x), y).backward()
            optimizer.step()
            assert all(p.isfinite().all() for p in model.parameters()), name


def test_racers_take_the_steps_that_they_would_take_alone() -> None:
    names = ("AdamW", "K-FAC")
    found = minibatch.race(minibatch.Race("table, MLP", 1, tuple((name, ()) for name in names)))
    workload = REPORTED["table, MLP"]()
    for name in names:
        kind = minibatch.OPTIMIZERS[name]
        alone, _ = train(workload, lambda m, kind=kind: kind.build(m, workload, {}), 1)  # type: ignore[misc]
        assert found[name]["losses"] == pytest.approx(alone, abs=1e-6)
        assert np.all(np.diff(found[name]["seconds"]) >= 0)


def test_a_fast_run_is_better_than_one_that_ends_alike_and_one_that_fails_is_worst() -> None:
    slow, fast = np.linspace(3, 1, 50), np.append(np.linspace(3, 1, 10), np.ones(40))
    failed = np.append(fast[:20], math.inf)
    values = [minibatch.mean_log(run, 50) for run in (fast, slow, failed)]
    assert values == sorted(values)
    assert np.isfinite(values).all()
