"""What a trial leaves in the study: written by the objective, read by the result and the report.

User attributes of a trial:

    trace_step, trace_loss, trace_cpu_seconds   the metric during the run, thinned
    best_loss, final_loss                       the least, and the mean of the last reports (and of
                                                the last losses of further folds)
    steps, cpu_seconds, stopped                 where the run ended and why
    steps_to_target, cpu_seconds_to_target      None if the target was not reached
    failure                                     why the run failed; only on failed runs
    damping, ratio, kl, slope                   λ, ρ, KL divergence and v·g of the last reported
                                                step of a natural gradient; ρ where it was measured
    trace_damping, trace_ratio, trace_kl, trace_slope   the same at each step of the trace
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial, Trial, TrialState

if TYPE_CHECKING:
    from fisherbo.training import StepReport, TracePoint

CONFIG = "fisherbo"  # user attribute of the study: what makes it the same study
MAX_POINTS = 120  # 16 characters a number at most stay under the 2045 that databases keep
MAX_REASON = 500
CURVATURE = ("damping", "ratio", "kl", "slope")


@dataclass(frozen=True)
class Run:
    """One training run as it ended.

    Attributes:
        trace: the metric against steps and CPU seconds.
        best_loss: least value of the metric.
        final_loss: mean of the metric over the last tenth of the reports.
        steps: steps taken.
        cpu_seconds: CPU seconds of training, without reports.
        stopped: "target", "steps", "seconds", "pruned" or "failed".
        steps_to_target: None if the target was not reached or there was none.
        cpu_seconds_to_target: likewise.
        curvature: what a natural gradient said of its step, by the number of steps; written but not
            read.
    """

    trace: tuple[TracePoint, ...]
    best_loss: float
    final_loss: float
    steps: int
    cpu_seconds: float
    stopped: str
    steps_to_target: int | None = None
    cpu_seconds_to_target: float | None = None
    curvature: Mapping[int, StepReport] = field(default_factory=dict, compare=False)


def write(trial: Trial, run: Run) -> None:
    """Store the run in the trial's user attributes."""
    points = thin(run.trace)
    attributes = {
        "trace_step": [point.step for point in points],
        "trace_loss": [_short(point.loss) for point in points],
        "trace_cpu_seconds": [round(point.cpu_seconds, 3) for point in points],
        "best_loss": run.best_loss if math.isfinite(run.best_loss) else None,
        "final_loss": run.final_loss if math.isfinite(run.final_loss) else None,
        "steps": run.steps,
        "cpu_seconds": run.cpu_seconds,
        "stopped": run.stopped,
        "steps_to_target": run.steps_to_target,
        "cpu_seconds_to_target": run.cpu_seconds_to_target,
    }
    for name, value in {**attributes, **_curvature(run, points)}.items():
        trial.set_user_attr(name, value)


def _curvature(run: Run, points: Sequence[TracePoint]) -> dict[str, Any]:
    """Attributes of λ, ρ, KL and v·g; none for optimizers that have none."""
    if not run.curvature:
        return {}
    attributes: dict[str, Any] = {}
    steps = [run.curvature.get(point.step) for point in points]
    for name in CURVATURE:
        values = [None if step is None else _stored(getattr(step, name)) for step in steps]
        known = [value for value in values if value is not None]
        attributes |= {f"trace_{name}": values, name: known[-1] if known else None}
    return attributes


def read(trial: FrozenTrial) -> Run | None:
    """The run stored in the trial, or None if there is none."""
    stored = trial.user_attrs
    if "stopped" not in stored:
        return None
    from fisherbo.training import TracePoint  # imported on first use: torch is slow to import

    columns = (stored["trace_step"], stored["trace_loss"], stored["trace_cpu_seconds"])
    return Run(
        trace=tuple(TracePoint(*row) for row in zip(*columns, strict=True)),
        best_loss=math.inf if stored["best_loss"] is None else stored["best_loss"],
        final_loss=math.inf if stored.get("final_loss") is None else stored["final_loss"],
        steps=stored["steps"],
        cpu_seconds=stored["cpu_seconds"],
        stopped=stored["stopped"],
        steps_to_target=stored["steps_to_target"],
        cpu_seconds_to_target=stored["cpu_seconds_to_target"],
    )


def write_failure(trial: Trial, error: BaseException) -> None:
    """Store why the run failed, on one line."""
    trial.set_user_attr("failure", " ".join(str(error).split())[:MAX_REASON])


def failure(trial: FrozenTrial) -> str | None:
    """Why the run failed, or None if it did not fail by itself."""
    reason: str | None = trial.user_attrs.get("failure")
    return reason


def is_done(trial: FrozenTrial) -> bool:
    """Whether the trial counts towards the study's total.

    A run that failed by itself counts. One that was interrupted, or whose worker was killed, does
    not: it is run again.
    """
    if trial.state == TrialState.FAIL:
        return failure(trial) is not None
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED)


def thin(trace: Sequence[TracePoint], count: int = MAX_POINTS) -> list[TracePoint]:
    """At most `count` points at even distances, with the first and the last."""
    if len(trace) <= count:
        return list(trace)
    scale = (len(trace) - 1) / (count - 1)
    return [trace[round(index * scale)] for index in range(count)]


def _short(value: float) -> float:
    """Value to six significant digits, to keep attributes short."""
    return float(f"{value:.6g}") if math.isfinite(value) else value


def _stored(value: float | None) -> float | None:
    """Value as `_short`; None for what is not finite, which databases refuse."""
    return None if value is None or not math.isfinite(value) else _short(value)
