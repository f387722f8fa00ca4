"""A small training loop that keeps a trace of loss against steps and CPU seconds.

It works with every `torch.optim.Optimizer`. A loss belongs to the number of steps taken before it
was evaluated: ``TracePoint.step == 0`` is the loss of the initial weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from fisherbo.errors import DivergedError, InvalidInputError

Batch = tuple[Tensor, Tensor]
Stopped = Literal["target", "steps", "seconds"]


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
class TrainingResult:
    """What a training run reached, and why it stopped.

    Attributes:
        trace: The reported points, in order; the last one is the end of the run.
        steps: Optimizer steps taken.
        cpu_seconds: CPU seconds of the training itself.
        best_loss: Smallest loss that was evaluated, reported or not.
        steps_to_target: Steps until the loss was at most the target; ``None`` if it never was.
        cpu_seconds_to_target: CPU seconds until then; ``None`` if it never was.
        stopped: ``"target"``, ``"steps"`` or ``"seconds"``: the limit that ended the run.
    """

    trace: tuple[TracePoint, ...]
    steps: int
    cpu_seconds: float
    best_loss: float
    steps_to_target: int | None
    cpu_seconds_to_target: float | None
    stopped: Stopped


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Tensor],
    batches: Iterable[Batch],
    *,
    max_steps: int,
    max_seconds: float = math.inf,
    target: float | None = None,
    measure: Callable[[nn.Module], float] | None = None,
    report_every: int = 5,
    on_report: Callable[[TracePoint], None] | None = None,
) -> TrainingResult:
    """Train until the target, the steps or the CPU seconds are reached.

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
        on_report: Called with each point of the trace; may raise to end the run.

    Returns:
        The trace and where it ended. The time of ``measure`` and ``on_report`` is not counted.

    Raises:
        DivergedError: If a loss is not finite.
        InvalidInputError: If a limit is not positive or ``batches`` is empty.
    """
    _check_limits(max_steps, max_seconds, report_every, target)
    watch = _Stopwatch()
    trace: list[TracePoint] = []
    best = math.inf
    for step, (x, y) in enumerate(_forever(batches)):
        stopped = _limit(step, max_steps, watch.seconds(), max_seconds)
        with torch.set_grad_enabled(stopped is None):
            objective = loss(model(x), y)
        value = _finite(objective.item(), step)
        due = stopped is not None or step % report_every == 0
        if measure is not None:
            with watch.paused():
                value = _finite(measure(model), step) if due else math.inf
        best = min(best, value)
        if target is not None and value <= target:
            stopped = "target"
        if due or stopped is not None:
            trace.append(TracePoint(step, value, watch.seconds()))
            with watch.paused():
                _tell(on_report, trace[-1])
        if stopped is not None:
            return _result(trace, best, stopped)
        _update(optimizer, objective)
    raise AssertionError("batches are iterated for ever")


def _update(optimizer: torch.optim.Optimizer, objective: Tensor) -> None:
    optimizer.zero_grad()
    objective.backward()
    optimizer.step()


def _tell(on_report: Callable[[TracePoint], None] | None, point: TracePoint) -> None:
    if on_report is not None:
        on_report(point)


def _result(trace: list[TracePoint], best: float, stopped: Stopped) -> TrainingResult:
    last = trace[-1]
    hit = stopped == "target"
    return TrainingResult(
        trace=tuple(trace),
        steps=last.step,
        cpu_seconds=last.cpu_seconds,
        best_loss=best,
        steps_to_target=last.step if hit else None,
        cpu_seconds_to_target=last.cpu_seconds if hit else None,
        stopped=stopped,
    )


def _limit(step: int, max_steps: int, seconds: float, max_seconds: float) -> Stopped | None:
    if step >= max_steps:
        return "steps"
    return "seconds" if seconds >= max_seconds else None


def _finite(value: float, step: int) -> float:
    if not math.isfinite(value):
        raise DivergedError(
            f"the loss is {value} after {step} steps; lower lr or raise the damping"
        )
    return value


def _forever(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise InvalidInputError(
                "batches must yield (x, y) pairs each time it is iterated, got nothing; "
                "pass a list or a DataLoader, not a generator that ends"
            )


def _check_limits(
    max_steps: int, max_seconds: float, report_every: int, target: float | None
) -> None:
    if max_steps < 1:
        raise InvalidInputError(f"max_steps must be >= 1, got {max_steps!r}; typical is 100")
    if not max_seconds > 0:
        raise InvalidInputError(
            f"max_seconds must be > 0, got {max_seconds!r}; leave it out for no limit"
        )
    if report_every < 1:
        raise InvalidInputError(f"report_every must be >= 1, got {report_every!r}; typical is 5")
    if target is not None and not math.isfinite(target):
        raise InvalidInputError(
            f"target must be finite, got {target!r}; leave it out for no target"
        )


class _Stopwatch:
    """CPU seconds of the process since it was made, without the pauses."""

    def __init__(self) -> None:
        self._start = time.process_time()

    def seconds(self) -> float:
        return time.process_time() - self._start

    def paused(self) -> _Pause:
        return _Pause(self)

    def skip(self, seconds: float) -> None:
        self._start += seconds


class _Pause:
    """Leaves the time inside its ``with`` block out of a stopwatch."""

    def __init__(self, watch: _Stopwatch) -> None:
        self._watch = watch

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *_: object) -> None:
        self._watch.skip(time.process_time() - self._start)
