"""A training loop: limits, early stopping, callbacks, and checkpoints that resume bit for bit.

It works with every `torch.optim.Optimizer`. A loss belongs to the number of steps taken before it
was evaluated: ``TracePoint.step == 0`` is the loss of the initial weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from fisherbo.errors import DivergedError, InvalidInputError
from fisherbo.training.callbacks import Callback, ProgressBar, Report, TracePoint
from fisherbo.training.checkpoint import load_checkpoint, save_atomically
from fisherbo.training.guards import remedy
from fisherbo.training.kfac import KFAC
from fisherbo.training.limits import Limits, Stopped, Stopwatch, check_counts
from fisherbo.training.precision import Precision
from fisherbo.training.stream import Batch, Stream

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run, and why it stopped.

    Attributes:
        trace: The reported points, in order; the last one is the end of the run.
        steps: Optimizer steps taken.
        cpu_seconds: CPU seconds of the training itself.
        best_loss: Smallest loss that was evaluated, reported or not.
        steps_to_target: Steps until the loss was at most the target; ``None`` if it never was.
        cpu_seconds_to_target: CPU seconds until then; ``None`` if it never was.
        stopped: ``"target"``, ``"steps"``, ``"seconds"`` or ``"patience"``: what ended the run.
    """

    trace: tuple[TracePoint, ...]
    steps: int
    cpu_seconds: float
    best_loss: float
    steps_to_target: int | None
    cpu_seconds_to_target: float | None
    stopped: Stopped


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: LossFunction,
    batches: Iterable[Batch],
    *,
    max_steps: int,
    max_seconds: float = math.inf,
    target: float | None = None,
    measure: Callable[[nn.Module], float] | None = None,
    report_every: int = 5,
    callbacks: Sequence[Callback] = (),
    scheduler: LRScheduler | None = None,
    autocast: torch.dtype | None = None,
    max_grad_norm: float | None = None,
    patience: int | None = None,
    keep_best: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    progress: bool = False,
) -> TrainingResult:
    """Train until the target is reached, or until steps, CPU seconds or patience run out.

    Steps are taken as ``optimizer.step(closure)``, so that K-FAC's adaptive damping and L-BFGS work
    too.

    Example:
        ```python
        model = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 10))
        optimizer = KFAC(model, likelihood="categorical")
        result = fit(
            model,
            optimizer,
            nn.functional.cross_entropy,
            DataLoader(TensorDataset(x, y), batch_size=128, shuffle=True),
            max_steps=500,
            scheduler=torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=500),
            autocast=torch.bfloat16,
            callbacks=[TensorBoard("runs/1")],
            checkpoint="run.pt",
        )
        result.trace[-1].loss
        ```

    Args:
        model: Called as ``model(x)``, in the mode (training or evaluation) in which it is given.
        optimizer: Any optimizer of the model's parameters.
        loss: ``loss(output, y)``, a scalar.
        batches: Pairs ``(x, y)``; iterated again when exhausted.
        max_steps: Steps allowed.
        max_seconds: CPU seconds allowed.
        target: The run ends when the loss is at most this.
        measure: What is compared with the target and reported, every ``report_every`` steps and at
            the end. Default: the loss of the batch before each step, which costs no further forward
            pass and is compared with the target at every step.
        report_every: Steps from one report to the next.
        callbacks: Called with each `Report`; may raise an exception to end the run.
        scheduler: Of the optimizer; stepped after each of its steps, `ReduceLROnPlateau` with the
            reported loss after each report.
        autocast: ``torch.bfloat16`` or ``torch.float16``: the model and the loss are evaluated
            under `torch.autocast` on the model's device. For float16 the loss is scaled by
            `torch.amp.GradScaler`; a step whose gradients overflow counts and moves nothing.
        max_grad_norm: Largest Euclidean norm of all gradients, to which they are scaled down before
            each step. For K-FAC and the natural gradient ``kl_clip`` is the invariant limit.
        patience: Reports without a new smallest reported loss that end the run.
        keep_best: Whether the model ends with the weights of the smallest reported loss.
        checkpoint: File that is written every ``checkpoint_every`` steps and at the end. If it
            exists, the run continues from it: the model, optimizer, scheduler, data order, trace,
            patience and best weights are restored, and so are all global random generators of the
            process.
        checkpoint_every: Steps from one checkpoint to the next.
        progress: Whether to draw a bar on standard error.

    Returns:
        The trace and where it ended. The time of ``measure``, callbacks and checkpoints is not
        counted.

    Raises:
        DivergedError: If a loss is not finite, unless the optimizer is a KFAC that recovers.
        InvalidInputError: If a limit is not positive, ``batches`` is empty, the scheduler cannot be
            stepped here, float16 is asked for with an optimizer that needs a closure, or the
            checkpoint is of another run.
    """
    check_counts(report_every=(report_every, 5), checkpoint_every=(checkpoint_every, 100))
    _check_scheduler(scheduler, optimizer)
    limits = Limits(max_steps, max_seconds, target, patience)
    precision = Precision(model, optimizer, autocast, max_grad_norm)
    path = None if checkpoint is None else Path(checkpoint)
    run = _Run(
        model, optimizer, scheduler, precision, Stream(batches), limits, keep_best, path is not None
    )
    if path is not None and path.exists():
        run.restore(load_checkpoint(path), path)
    bar = ProgressBar() if progress else None
    watching: list[Callback] = [*callbacks, *([] if bar is None else [bar])]
    try:
        while not run.advance(loss, measure, report_every, watching):
            if path is not None and run.step % checkpoint_every == 0:
                with run.watch.paused():
                    save_atomically(run.state(), path)
    finally:
        if bar is not None:
            bar.close()
    if path is not None:
        save_atomically(run.state(), path)
    if keep_best and run.best_weights is not None:
        model.load_state_dict(run.best_weights)
    return run.result()


class _Run:
    """A run between two steps: all that a checkpoint holds."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: LRScheduler | None,
        precision: Precision,
        stream: Stream,
        limits: Limits,
        keep_best: bool,
        saved: bool,
    ) -> None:
        self._saved = saved
        self._kept = model.state_dict().keys()  # buffers may be left out of it
        self._mark: dict[str, Any] = {}
        self._parts: dict[str, Any] = {"model": model, "optimizer": optimizer}
        if scheduler is not None:
            self._parts["scheduler"] = scheduler
        if precision.scaler is not None:
            self._parts["scaler"] = precision.scaler
        self._precision = precision
        self._model, self._optimizer, self._scheduler = model, optimizer, scheduler
        self._stream = stream
        self._limits = limits
        self._keep_best = keep_best
        self._recovers = isinstance(optimizer, KFAC) and optimizer.recovers
        self._stopped: Stopped | None = None
        self._trace: list[TracePoint] = []
        self._best = self._best_reported = math.inf
        self._since_best = 0
        self.best_weights: dict[str, Tensor] | None = None
        self.step = 0
        self.watch = Stopwatch()

    def advance(
        self,
        loss: LossFunction,
        measure: Callable[[nn.Module], float] | None,
        report_every: int,
        callbacks: Sequence[Callback],
    ) -> bool:
        """Evaluate, report, and take a step unless the run is at its end; whether it is."""
        stopped = self._limits.reached(self.step, self.watch.seconds())
        if self._saved:
            self._mark = self._progress()
        x, y = self._stream.next()
        before = torch.get_rng_state()
        with torch.set_grad_enabled(stopped is None):
            objective = self._evaluated(loss, x, y)
        value = self._finite(objective.item())
        due = stopped is not None or self.step % report_every == 0
        if measure is not None:
            with self.watch.paused():
                value = self._finite(measure(self._model)) if due else math.inf
        self._best = min(self._best, value)
        if self._limits.target is not None and value <= self._limits.target:
            stopped = "target"
        if due or stopped is not None:
            stopped = self._report(value, callbacks) or stopped
        self._stopped = stopped
        if stopped is None:
            if due and isinstance(self._scheduler, ReduceLROnPlateau):
                self._scheduler.step(value)
            self._update(objective, lambda: self._evaluated(loss, x, y), before)
        return stopped is not None

    def state(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        ended = self._stopped is not None
        progress = dict(self._mark if ended else self._progress())
        buffers, trace = progress.pop("buffers"), progress.pop("trace")
        progress["trace"] = [list(asdict(point).values()) for point in trace]
        state = {name: part.state_dict() for name, part in self._parts.items()}
        state["model"] = {**state["model"], **buffers}
        return {**state, **progress, "step": self.step, "seconds": self.watch.seconds()}

    def _progress(self) -> dict[str, Any]:
        """What an evaluation changes; a run that ended is saved as before its last one."""
        return {
            "stream": self._stream.state(),
            "trace": tuple(self._trace),
            "best": [self._best, self._best_reported, self._since_best],
            "best_weights": self.best_weights,
            "buffers": {
                name: buffer.clone()
                for name, buffer in self._model.named_buffers()
                if name in self._kept
            },
        }

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go on from `state`."""
        for name, part in self._parts.items():
            if name not in state:
                raise InvalidInputError(
                    f"{path} is of a run without a {name}, got one; remove the file or run as then"
                )
            try:
                part.load_state_dict(state[name])
            except (RuntimeError, ValueError, KeyError) as error:
                raise InvalidInputError(
                    f"{path} is of a run with another {name}: {error}; "
                    "remove the file or run as then"
                ) from error
        self.step = state["step"]
        self.watch = Stopwatch(state["seconds"])
        self._trace = [TracePoint(*values) for values in state["trace"]]
        self._best, self._best_reported, self._since_best = state["best"]
        self.best_weights = state["best_weights"]
        self._stream.restore(state["stream"])

    def result(self) -> TrainingResult:
        """The result of a run that is at its end."""
        last, stopped = self._trace[-1], self._stopped
        assert stopped is not None
        hit = stopped == "target"
        return TrainingResult(
            trace=tuple(self._trace),
            steps=last.step,
            cpu_seconds=last.cpu_seconds,
            best_loss=self._best,
            steps_to_target=last.step if hit else None,
            cpu_seconds_to_target=last.cpu_seconds if hit else None,
            stopped=stopped,
        )

    def _evaluated(self, loss: LossFunction, x: Tensor, y: Tensor) -> Tensor:
        with self._precision.autocast():
            return loss(self._model(x), y)

    def _finite(self, value: float) -> float:
        if math.isfinite(value):
            return value
        if self._recovers:
            return math.inf
        raise DivergedError(
            f"the loss is {value} after {self.step} steps; "
            f"{remedy(self._optimizer.param_groups[0])}"
        )

    def _report(self, value: float, callbacks: Sequence[Callback]) -> Stopped | None:
        self._trace.append(TracePoint(self.step, value, self.watch.seconds()))
        with self.watch.paused():
            if value < self._best_reported:
                self._best_reported, self._since_best = value, 0
                if self._keep_best:
                    weights = self._model.state_dict().items()
                    self.best_weights = {name: value.clone() for name, value in weights}
            else:
                self._since_best += 1
            report = Report(
                point=self._trace[-1],
                trace=tuple(self._trace),
                best_loss=self._best,
                max_steps=self._limits.max_steps,
                model=self._model,
                optimizer=self._optimizer,
            )
            for callback in callbacks:
                callback(report)
        patience = self._limits.patience
        return "patience" if patience is not None and self._since_best >= patience else None

    def _update(self, objective: Tensor, again: Callable[[], Tensor], before: Tensor) -> None:
        """One step; the loss is evaluated again only for optimizers that call the closure again."""
        evaluated: list[Tensor] = []

        def closure() -> Tensor:
            current = objective
            if evaluated:
                torch.set_rng_state(before)  # the same dropout masks as the first time
                current = again()
            self._precision.backward(current)
            evaluated.append(current)
            return current.detach()

        taken = self._precision.step(closure)
        plateau = isinstance(self._scheduler, ReduceLROnPlateau)
        if taken and self._scheduler is not None and not plateau:
            self._scheduler.step()
        self.step += 1


def _check_scheduler(scheduler: LRScheduler | None, optimizer: torch.optim.Optimizer) -> None:
    if scheduler is None:
        return
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise InvalidInputError(
            "scheduler must be one of the optimizer given, got one of another "
            f"{type(scheduler.optimizer).__name__}; build it with this optimizer"
        )
    if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode != "min":
        raise InvalidInputError(
            f"ReduceLROnPlateau must have mode 'min' for the reported loss, got "
            f"{scheduler.mode!r}; let measure return what is to be minimised"
        )
