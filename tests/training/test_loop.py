from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training import KFAC, Report, TrainingResult, fit, mlp

X = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
Y = X.square().sum(1, keepdim=True)


def fresh(kind: str = "sgd") -> tuple[nn.Module, torch.optim.Optimizer]:
    model = mlp(3, (8,), 1, seed=0)
    optimizer = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.05),
        "adam": lambda: torch.optim.Adam(model.parameters(), lr=0.05),
        "kfac": lambda: KFAC(model, likelihood="normal"),
    }[kind]()
    return model, optimizer


def run(kind: str = "sgd", **options: object) -> TrainingResult:
    return fit(*fresh(kind), functional.mse_loss, [(X, Y)], **({"max_steps": 12} | options))


@pytest.mark.parametrize("kind", ["sgd", "adam", "kfac"])
def test_any_optimizer_trains(kind: str) -> None:
    result = run(kind)
    assert result.stopped == "steps"
    assert result.steps == 12
    assert [point.step for point in result.trace] == [0, 5, 10, 12]
    assert result.trace[-1].loss < result.trace[0].loss
    assert result.cpu_seconds == result.trace[-1].cpu_seconds > 0


def test_a_loss_belongs_to_the_steps_taken_before_it() -> None:
    model, optimizer = fresh()
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = functional.mse_loss(model(X), Y)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    result = run(max_steps=5, report_every=1)
    assert [point.loss for point in result.trace] == losses
    assert result.best_loss == min(losses)


def test_two_runs_are_one_longer_run() -> None:
    whole = run("kfac", max_steps=10)
    model, optimizer = fresh("kfac")
    for _ in range(2):
        half = fit(model, optimizer, functional.mse_loss, [(X, Y)], max_steps=5)
    assert half.trace[-1].loss == whole.trace[-1].loss


def test_the_target_is_checked_at_every_step() -> None:
    losses = [point.loss for point in run(report_every=1).trace]
    target = losses[3]
    assert min(losses[:3]) > target
    result = run(target=target)
    assert (result.stopped, result.steps_to_target, result.steps) == ("target", 3, 3)
    assert result.trace[-1].loss == target
    assert result.cpu_seconds_to_target == result.cpu_seconds
    assert run(target=-1.0).steps_to_target is None


def test_a_measure_replaces_the_batch_loss_at_the_reports() -> None:
    seen = []

    def measure(model: nn.Module) -> float:
        with torch.no_grad():
            seen.append(functional.mse_loss(model(X), Y).item())
        return seen[-1]

    result = run(measure=measure, report_every=4, max_steps=10)
    assert [point.step for point in result.trace] == [0, 4, 8, 10]
    assert [point.loss for point in result.trace] == seen
    reached = run(measure=measure, report_every=4, target=seen[1])
    assert reached.steps_to_target == 4


def test_time_of_reports_and_measures_is_not_counted() -> None:
    def burn(_: object) -> float:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        return 1.0

    with_reports = run(measure=burn, callbacks=[burn], report_every=1, max_steps=10)
    assert with_reports.cpu_seconds < 0.5  # 1.1 s were burnt


def test_seconds_end_a_run() -> None:
    result = run(max_steps=10**9, max_seconds=0.05)
    assert result.stopped == "seconds"
    assert 0.05 <= result.cpu_seconds < 1
    assert result.trace[-1].step == result.steps


def test_batches_are_iterated_again() -> None:
    sizes = []

    def loss(output: Tensor, y: Tensor) -> Tensor:
        sizes.append(len(y))
        return functional.mse_loss(output, y)

    fit(*fresh(), loss, [(X[:20], Y[:20]), (X[20:], Y[20:])], max_steps=4)
    assert sizes == [20, 12, 20, 12, 20]


def test_reports_may_end_a_run() -> None:
    class Pruned(Exception):
        pass

    def stop(report: Report) -> None:
        if report.point.step >= 5:
            raise Pruned

    with pytest.raises(Pruned):
        run(callbacks=[stop])


def test_a_loss_that_is_not_finite_is_an_error() -> None:
    model, _ = fresh()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
    with pytest.raises(DivergedError, match=r"the loss is (inf|nan) after \d+ steps"):
        fit(model, optimizer, functional.mse_loss, [(X, Y)], max_steps=100)


def test_a_measure_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(DivergedError, match="nan after 0 steps"):
        run(measure=lambda _: float("nan"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, "max_steps must be >= 1, got 0"),
        ({"max_seconds": 0.0}, "max_seconds must be > 0"),
        ({"report_every": 0}, "report_every must be >= 1"),
        ({"target": float("nan")}, "target must be finite, got nan"),
    ],
)
def test_bad_limits_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run(**options)


@pytest.mark.parametrize("batches", [[], iter([(X, Y)])])
def test_batches_that_end_are_refused(batches: object) -> None:
    with pytest.raises(InvalidInputError, match="batches must yield"):
        fit(*fresh(), functional.mse_loss, batches, max_steps=3)
