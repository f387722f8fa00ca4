"""Early stopping, callbacks, and checkpoints that resume bit for bit."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import random
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler
from torch.testing import assert_close
from torch.utils.data import DataLoader, Dataset, TensorDataset

from fisherbo.errors import DivergedError, InvalidInputError, MissingExtraError
from fisherbo.training import KFAC, MLflow, NaturalGradient, Report, TensorBoard, fit, mlp
from fisherbo.training import checkpoint as checkpoints
from fisherbo.training.checkpoint import load_checkpoint, save_atomically

X = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
Y = X.square().sum(1, keepdim=True)


def network() -> nn.Sequential:
    plain = mlp(3, (8,), 1, seed=0)
    return nn.Sequential(plain[0], nn.BatchNorm1d(8), nn.Dropout(0.2), plain[1], plain[2])


OPTIMIZERS = {
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    "kfac": lambda model: KFAC(model, likelihood="normal", lr=0.05),
    "ekfac": lambda model: KFAC(model, likelihood="normal", lr=0.05, eigen_correction=True),
    "adaptive": lambda model: KFAC(
        model, likelihood="normal", adaptive_damping=True, quadratic_model=True, damping=1.0
    ),
    "natural": lambda model: NaturalGradient(model, likelihood="normal", lr=0.2, kl_clip=0.1),
}


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Transforms that draw from all three global generators."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        noise = torch.randn(3) + random.gauss(0, 1) + float(np.random.normal())  # noqa: NPY002
        return X[index] + 0.1 * noise, Y[index]


LOADERS = {
    "whole": lambda: [(X, Y)],
    "global order": lambda: DataLoader(TensorDataset(X, Y), batch_size=10, shuffle=True),
    "own order": lambda: DataLoader(
        Noisy(), batch_size=10, shuffle=True, generator=torch.Generator().manual_seed(5)
    ),
}


def seed_all() -> None:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002


SCHEDULERS = {
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, 3, 0.9),
    "plateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(optimizer, patience=0),
}


def run(
    name: str, loader: str, scheduler: str = "step", **options: Any
) -> tuple[list[tuple[int, float]], list[Tensor]]:
    model = network()
    optimizer = OPTIMIZERS[name](model)
    seed_all()
    result = fit(
        model, optimizer, functional.mse_loss, LOADERS[loader](),
        scheduler=SCHEDULERS[scheduler](optimizer), **({"report_every": 2} | options),
    )  # fmt: skip
    trace = [(point.step, point.loss) for point in result.trace]
    return trace, [p.detach() for p in model.parameters()] + list(model.buffers())


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("loader", LOADERS)
def test_a_run_that_goes_on_from_its_checkpoint_is_the_uninterrupted_run(
    name: str, loader: str, tmp_path: Path
) -> None:
    straight = run(name, loader, max_steps=13, keep_best=True)
    path = tmp_path / "run.pt"
    for steps in (0, 5, 6, 13, 13):
        if steps:
            resumed = run(name, loader, max_steps=steps, keep_best=True, checkpoint=path)
    assert resumed[0] == straight[0]
    for a, b in zip(resumed[1], straight[1], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["sgd", "kfac", "natural"])
@pytest.mark.parametrize(
    "options",
    [
        {"scheduler": "plateau"},
        {"autocast": torch.bfloat16, "max_grad_norm": 0.5},
        {"autocast": torch.float16, "max_grad_norm": 0.5},
    ],
)
def test_plateaus_clipping_and_scales_resume_to_the_bit(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    straight = run(name, "global order", max_steps=13, **options)
    for steps in (5, 6, 13, 13):
        resumed = run(
            name, "global order", max_steps=steps, checkpoint=tmp_path / "run.pt", **options
        )
    assert resumed[0] == straight[0]
    for a, b in zip(resumed[1], straight[1], strict=True):
        assert torch.equal(a, b)


def test_a_plateau_is_stepped_with_the_reported_loss() -> None:
    values, rates = iter([3.0, 2.0, 2.5, 2.5, 1.0, 0.5]), []
    model = mlp(3, (8,), 1)
    optimizer = KFAC(model, likelihood="normal", lr=0.08)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    fit(model, optimizer, functional.mse_loss, [(X, Y)], max_steps=10, report_every=2,
        measure=lambda _: next(values), scheduler=scheduler,
        callbacks=[lambda report: rates.append(report.metrics["lr"])])  # fmt: skip
    assert rates == [0.08, 0.08, 0.08, 0.04, 0.02, 0.02]
    assert scheduler.best == 1.0  # the last report ends the run


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["adam", "kfac", "ekfac", "natural"])
def test_mixed_precision_trains(name: str, dtype: torch.dtype) -> None:
    model, seen = mlp(3, (8,), 1), []

    def loss(output: Tensor, y: Tensor) -> Tensor:
        seen.append((output.dtype, torch.is_autocast_enabled("cpu")))
        return functional.mse_loss(output, y)

    result = fit(model, OPTIMIZERS[name](model), loss, [(X, Y)], max_steps=60, autocast=dtype)
    assert set(seen) == {(dtype, True)}
    assert result.trace[-1].loss < 0.9 * result.trace[0].loss
    assert not torch.is_autocast_enabled("cpu")
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_an_overflow_counts_and_moves_neither_weights_nor_schedule() -> None:
    model = mlp(3, (8,), 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.5)
    before = [p.detach().clone() for p in model.parameters()]
    result = fit(model, optimizer, lambda z, y: 1e3 * functional.mse_loss(z, y), [(X, Y)],
                 max_steps=2, autocast=torch.float16, scheduler=scheduler)  # fmt: skip
    assert result.steps == 2
    assert optimizer.param_groups[0]["lr"] == 0.01
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_gradients_are_clipped_to_their_norm(dtype: torch.dtype | None) -> None:
    model = mlp(3, (8,), 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [p.detach().clone() for p in model.parameters()]
    fit(model, optimizer, lambda z, y: 0.02 * functional.mse_loss(z, y), [(X, Y)], max_steps=1,
        max_grad_norm=0.125, autocast=dtype)  # fmt: skip
    moved = [(p.detach() - old) for p, old in zip(model.parameters(), before, strict=True)]
    assert nn.utils.get_total_norm(moved).item() == pytest.approx(0.125, rel=1e-3)


def test_empirical_factors_are_not_clipped() -> None:
    factors = []
    for limit in (None, 1e-3):
        model = mlp(3, (8,), 1)
        optimizer = KFAC(model, likelihood="normal", fisher="empirical", lr=0.0)
        fit(model, optimizer, lambda z, y: 0.02 * functional.mse_loss(z, y), [(X, Y)], max_steps=1,
            max_grad_norm=limit, autocast=torch.float16 if limit else None)  # fmt: skip
        factors.append(optimizer.state[model[0].weight]["output_factor"])
    assert_close(*factors, rtol=1e-2, atol=1e-4)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("every", [1, 4, 100])
def test_a_killed_run_goes_on_from_its_last_checkpoint(every: int, tmp_path: Path) -> None:
    straight = run("kfac", "own order", max_steps=14)
    path = tmp_path / "folder" / "run.pt"
    seen: list[int] = []

    def kill(report: Report) -> None:
        seen.append(report.point.step)
        if len(seen) == 5:
            raise Killed

    options = {"max_steps": 14, "checkpoint": path, "checkpoint_every": every}
    with pytest.raises(Killed):
        run("kfac", "own order", callbacks=[kill], **options)
    assert path.exists() == (every < 100)
    resumed = run("kfac", "own order", callbacks=[kill], **options)
    assert seen[5] == {1: 8, 4: 8, 100: 0}[every]
    assert resumed[0] == straight[0]
    for a, b in zip(resumed[1], straight[1], strict=True):
        assert torch.equal(a, b)


WRITER = """
import os, sys, torch
from pathlib import Path
from fisherbo.training.checkpoint import save_atomically
path = Path(sys.argv[1])
real = torch.save
def slow(state, file):
    real(state, file)
    file.flush()
    os._exit(9)  # killed before the file is in its place
torch.save = slow
save_atomically({"new": torch.zeros(100)}, path)
"""


def test_a_process_killed_while_it_writes_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    save_atomically({"old": torch.ones(3)}, path)
    done = subprocess.run([sys.executable, "-c", WRITER, str(path)], check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 9
    assert torch.equal(load_checkpoint(path)["old"], torch.ones(3))


def test_a_write_that_fails_leaves_the_old_checkpoint_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run.pt"
    save_atomically({"old": 1}, path)

    def full(state: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(OSError, match="no space left"):
        save_atomically({"new": 2}, path)
    monkeypatch.undo()
    assert load_checkpoint(path)["old"] == 1
    assert os.listdir(tmp_path) == ["run.pt"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_files_that_are_no_checkpoint_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"run.pt is not a checkpoint of fisherbo"):
        run("sgd", "whole", max_steps=2, checkpoint=path)
    torch.save({"version": 0}, path)
    with pytest.raises(InvalidInputError, match="not a checkpoint of version 1"):
        run("sgd", "whole", max_steps=2, checkpoint=path)


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.pt"
    run("kfac", "whole", max_steps=2, checkpoint=path)
    with pytest.raises(InvalidInputError, match="of a run with another optimizer"):
        run("ekfac", "whole", max_steps=2, checkpoint=path)
    with pytest.raises(InvalidInputError, match="of a run with another model"):
        fit(mlp(3, (4,), 1), torch.optim.SGD(network().parameters(), lr=0.1), functional.mse_loss,
            [(X, Y)], max_steps=2, checkpoint=path)  # fmt: skip


def test_patience_ends_a_run_and_the_best_weights_are_kept() -> None:
    values = iter([5.0, 3.0, 4.0, 2.0, 2.0, 6.0, 2.5, 1.0])
    model, kept = mlp(3, (8,), 1), []

    def measure(model: nn.Module) -> float:
        kept.append([p.detach().clone() for p in model.parameters()])
        return next(values)

    result = fit(
        model, torch.optim.SGD(model.parameters(), lr=0.01), functional.mse_loss, [(X, Y)],
        max_steps=100, measure=measure, report_every=1, patience=3, keep_best=True,
    )  # fmt: skip
    assert (result.stopped, result.steps, result.best_loss) == ("patience", 6, 2.0)
    for p, q in zip(model.parameters(), kept[3], strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(kept[6][0], kept[3][0])


def test_without_keep_best_the_last_weights_stay() -> None:
    values, kept = iter([1.0, 2.0, 3.0]), []
    model = mlp(3, (8,), 1)

    def measure(model: nn.Module) -> float:
        kept.append(model[0].weight.detach().clone())
        return next(values)

    fit(model, torch.optim.SGD(model.parameters(), lr=0.01), functional.mse_loss, [(X, Y)],
        max_steps=2, measure=measure, report_every=1)  # fmt: skip
    assert torch.equal(model[0].weight, kept[-1])


def test_adaptive_damping_works_in_the_loop_and_is_reported() -> None:
    seen: list[dict[str, float]] = []
    model = network()
    fit(model, OPTIMIZERS["adaptive"](model), functional.mse_loss, [(X, Y)], max_steps=12,
        report_every=1, callbacks=[lambda report: seen.append(report.metrics)])  # fmt: skip
    assert seen[0].keys() == {"loss", "best_loss", "cpu_seconds", "lr"}
    assert {"damping", "slope", "kl", "clip"} <= seen[1].keys()
    assert sum("ratio" in metrics for metrics in seen) == 2


def test_a_recovering_optimizer_goes_on_after_a_loss_that_is_not_finite() -> None:
    def fresh(recover: bool) -> tuple[nn.Module, KFAC, Any]:
        calls = []

        def loss(output: Tensor, y: Tensor) -> Tensor:
            calls.append(1)
            value = functional.mse_loss(output, y)
            return value * torch.nan if len(calls) == 5 else value

        model = mlp(3, (8,), 1)
        return model, KFAC(model, likelihood="normal", recover=recover), loss

    model, optimizer, loss = fresh(True)
    result = fit(model, optimizer, loss, [(X, Y)], max_steps=20)
    assert (result.stopped, result.steps) == ("steps", 20)
    assert result.trace[-1].loss < result.trace[0].loss
    with pytest.raises(DivergedError, match="nan after 4 steps"):
        model, optimizer, loss = fresh(False)
        fit(model, optimizer, loss, [(X, Y)], max_steps=20)


class Writer:
    def __init__(self) -> None:
        self.scalars: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, value, step))

    def flush(self) -> None:
        pass


def test_tensorboard_gets_every_metric_of_every_report() -> None:
    writer, model = Writer(), mlp(3, (8,), 1)
    result = fit(model, KFAC(model, likelihood="normal"), functional.mse_loss, [(X, Y)],
                 max_steps=10, callbacks=[TensorBoard(writer)])  # fmt: skip
    losses = [(step, value) for name, value, step in writer.scalars if name == "loss"]
    assert losses == [(point.step, point.loss) for point in result.trace]
    assert [step for name, _, step in writer.scalars if name == "kl"] == [5, 10]


def test_mlflow_gets_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[dict[str, float], int, str | None]] = []
    module = types.ModuleType("mlflow")
    module.log_metrics = lambda metrics, step, run_id: logged.append((metrics, step, run_id))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    model = mlp(3, (8,), 1)
    fit(model, torch.optim.SGD(model.parameters(), lr=0.1), functional.mse_loss, [(X, Y)],
        max_steps=10, callbacks=[MLflow("r7")])  # fmt: skip
    assert [(step, run) for _, step, run in logged] == [(0, "r7"), (5, "r7"), (10, "r7")]
    assert logged[1][0].keys() == {"loss", "best_loss", "cpu_seconds", "lr"}


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("torch.utils.tensorboard", lambda: TensorBoard("runs")),
        ("mlflow", MLflow),
        ("tqdm.auto", lambda: run("sgd", "whole", max_steps=2, progress=True)),
    ],
)
def test_a_missing_package_is_named(
    module: str, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"is not installed; .*fisherbo\[logging\]"):
        make()


def test_a_bar_is_drawn_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    run("sgd", "whole", max_steps=4)
    assert capsys.readouterr().err == ""
    run("sgd", "whole", max_steps=4, progress=True)
    assert "4/4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patience": 0}, "patience must be >= 1, got 0"),
        ({"checkpoint_every": 0}, "checkpoint_every must be >= 1, got 0"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be > 0 or None, got 0.0"),
        ({"autocast": torch.float64}, "autocast must be torch.bfloat16.*got torch.float64"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run("sgd", "whole", max_steps=2, **options)


class ByClosure(torch.optim.SGD):
    def step(self, closure: Any) -> Any:  # as LBFGS does
        return super().step(closure)


@pytest.mark.parametrize(
    "make",
    [OPTIMIZERS["adaptive"], lambda model: torch.optim.LBFGS(model.parameters()),
     lambda model: ByClosure(model.parameters(), lr=0.1)],
)  # fmt: skip
def test_float16_refuses_optimizers_that_need_a_closure(make: Any) -> None:
    model = mlp(3, (8,), 1)
    optimizer = make(model)
    scheduler = lr_scheduler.StepLR(optimizer, 3)  # wraps the step
    with pytest.raises(InvalidInputError, match=r"steps without a closure.*use torch.bfloat16"):
        fit(model, optimizer, functional.mse_loss, [(X, Y)], max_steps=2, scheduler=scheduler,
            autocast=torch.float16)  # fmt: skip


def test_schedulers_that_cannot_be_stepped_are_refused() -> None:
    model = mlp(3, (8,), 1)
    one, two = (torch.optim.SGD(model.parameters(), lr=0.1) for _ in range(2))
    for scheduler, message in (
        (lr_scheduler.StepLR(two, 3), "scheduler must be one of the optimizer given"),
        (lr_scheduler.ReduceLROnPlateau(one, mode="max"), "must have mode 'min'"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            fit(model, one, functional.mse_loss, [(X, Y)], max_steps=2, scheduler=scheduler)


def test_a_diverged_run_names_the_settings_to_change() -> None:
    model = mlp(3, (8,), 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e6, momentum=0.9)
    with pytest.raises(DivergedError, match=r"lower lr \(now 1e\+06\) or momentum \(now 0.9\)$"):
        fit(model, optimizer, functional.mse_loss, [(X, Y)], max_steps=100)


def logged_run(callback: Any) -> list[tuple[int, float]]:
    model = mlp(3, (8,), 1)
    result = fit(model, KFAC(model, likelihood="normal", lr=0.05), functional.mse_loss, [(X, Y)],
                 max_steps=10, callbacks=[callback])  # fmt: skip
    return [(point.step, point.loss) for point in result.trace]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trace = logged_run(TensorBoard(tmp_path))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"loss", "best_loss", "cpu_seconds", "lr", "damping", "kl", "slope", "clip"} == set(
        events.Tags()["scalars"]
    )
    assert [e.step for e in events.Scalars("loss")] == [step for step, _ in trace]
    losses = [e.value for e in events.Scalars("loss")]
    assert losses == pytest.approx([loss for _, loss in trace], rel=1e-6)
    assert [e.step for e in events.Scalars("kl")] == [5, 10]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("named", [False, True])
def test_mlflow_reads_what_was_written(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.util.find_spec("mlflow") and importlib.metadata.version("mlflow-skinny")
    if not version or int(version.split(".")[0]) < 3:
        pytest.skip("no mlflow of version 3")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow

    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    run = mlflow.start_run()
    if named:
        mlflow.end_run()
    trace = logged_run(MLflow(run.info.run_id if named else None))
    mlflow.end_run()
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == trace
