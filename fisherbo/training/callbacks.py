"""What may watch a run of `fisherbo.training.fit`: a bar, TensorBoard, MLflow, your own function.

A callback is a function of a `Report`; it may raise to end the run. The packages of those here are
imported when one is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn

from fisherbo.errors import MissingExtraError
from fisherbo.training.kfac import KFAC
from fisherbo.training.natural import NaturalGradient
from fisherbo.training.plan import StepReport


@dataclass(frozen=True)
class TracePoint:
    """The loss after ``step`` steps and the CPU time that they took.

    Attributes:
        step: Optimizer steps taken.
        loss: The loss of the batch, or what ``measure`` returned.
        cpu_seconds: CPU seconds of the training itself, of all threads of the process.
    """

    step: int
    loss: float
    cpu_seconds: float


@dataclass(frozen=True)
class Report:
    """The state of a run, handed to callbacks.

    Attributes:
        point: The loss and the steps and time that it took.
        trace: All points up to this one, those before a checkpoint included.
        best_loss: Smallest loss that was evaluated.
        max_steps: Steps allowed.
        model: The network, at the weights of the loss.
        optimizer: Its optimizer.
    """

    point: TracePoint
    trace: Sequence[TracePoint]
    best_loss: float
    max_steps: int
    model: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def last_step(self) -> StepReport | None:
        """Damping, ρ, KL and v·g of the last step of a natural gradient; ``None`` for others."""
        if isinstance(self.optimizer, KFAC | NaturalGradient) and self.point.step > 0:
            return self.optimizer.last_step
        return None

    @property
    def metrics(self) -> dict[str, float]:
        """All finite numbers of the report by name."""
        found: dict[str, float | None] = {
            "loss": self.point.loss,
            "best_loss": self.best_loss,
            "cpu_seconds": self.point.cpu_seconds,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
        }
        if self.last_step is not None:
            step = self.last_step
            found |= {"damping": step.damping, "slope": step.slope, "kl": step.kl}
            found |= {"clip": step.clip, "ratio": step.ratio}
        return {k: v for k, v in found.items() if v is not None and math.isfinite(v)}


Callback: TypeAlias = Callable[[Report], object]


class TensorBoard:
    """Writes the metrics of each report to TensorBoard.

    Args:
        target: A folder, or a ``SummaryWriter``.

    Raises:
        MissingExtraError: If tensorboard is not installed.
    """

    def __init__(self, target: str | Path | Any) -> None:
        self._writer: Any = target
        if isinstance(target, str | Path):
            module = _imported("torch.utils.tensorboard", "tensorboard")
            self._writer = module.SummaryWriter(str(target))

    def __call__(self, report: Report) -> None:
        """Write one report."""
        for name, value in report.metrics.items():
            self._writer.add_scalar(name, value, report.point.step)
        self._writer.flush()


class MLflow:
    """Logs the metrics of each report to the active run of MLflow, or to one of its runs.

    Args:
        run_id: The run; ``None`` is the active one, which MLflow starts if there is none.

    Raises:
        MissingExtraError: If mlflow is not installed.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self._mlflow = _imported("mlflow", "mlflow")
        self._run_id = run_id

    def __call__(self, report: Report) -> None:
        """Log one report."""
        self._mlflow.log_metrics(report.metrics, step=report.point.step, run_id=self._run_id)


class ProgressBar:
    """A tqdm bar of steps on standard error.

    Raises:
        MissingExtraError: If tqdm is not installed.
    """

    def __init__(self) -> None:
        self._tqdm = _imported("tqdm.auto", "tqdm").tqdm
        self._bar: Any = None

    def __call__(self, report: Report) -> None:
        """Draw one report."""
        if self._bar is None:
            self._bar = self._tqdm(total=report.max_steps, unit="step")
        self._bar.update(report.point.step - self._bar.n)
        self._bar.set_postfix(loss=f"{report.point.loss:.4g}")

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _imported(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(package, "logging") from error
