"""Figures of training runs: the loss against steps and time, and what a natural gradient said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from optuna.trial import FrozenTrial

from fisherbo.errors import InvalidInputError
from fisherbo.visualization.style import colours, goal_line, graph_objects, lay_out, nats, subplots

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from fisherbo.training import TracePoint

_MONITORED = {
    "trace_loss": "loss",
    "trace_damping": "damping λ",
    "trace_kl": "KL divergence of a step / nats",
}


def plot_training_trace(
    traces: Mapping[str, Sequence[TracePoint]],
    *,
    against: Literal["steps", "cpu_seconds"] = "steps",
    metric: str = "training loss",
    target: float | None = None,
) -> Figure:
    """Figure of the metric during training, one line a run, both axes logarithmic.

    Args:
        traces: points of each run by the run's name.
        against: steps, or CPU seconds of training.
        metric: what the loss of the points is called.
        target: value to draw as a horizontal line.

    Raises:
        InvalidInputError: `against` is neither of the two.
        MissingExtraError: plotly is not installed.
    """
    go = graph_objects()
    axes = {"steps": "steps", "cpu_seconds": "CPU seconds"}
    if against not in axes:
        raise InvalidInputError(f"against must be 'steps' or 'cpu_seconds', got {against!r}")
    figure = go.Figure()
    for colour, (name, trace) in zip(colours(len(traces)), traces.items(), strict=True):
        points = [(point.step if against == "steps" else point.cpu_seconds, point.loss)
                  for point in trace]  # fmt: skip
        points = [(x, y) for x, y in points if x > 0]
        x, y = [x for x, _ in points], [y for _, y in points]
        figure.add_scatter(x=x, y=y, name=name, mode="lines", line={"color": colour, "width": 2})
    lay_out(figure, f"{metric.capitalize()} against {axes[against]}, best runs", axes[against])
    positive = all(point.loss > 0 for trace in traces.values() for point in trace)
    positive &= target is None or target > 0
    figure.update_xaxes(type="log")
    figure.update_yaxes(title=nats(metric), type="log" if positive else "linear")
    if target is not None:
        goal_line(figure, target, f"target {target:g}", log=positive)
    return figure


def plot_training_monitor(trial: FrozenTrial, *, metric: str = "loss") -> Figure:
    """Figure of one run of a tuned network: the loss, the damping λ and the KL of its steps.

    Args:
        trial: A trial of `fisherbo.tune_training`; λ and KL are drawn where its optimizer has them.
        metric: What the loss is called.

    Raises:
        InvalidInputError: The trial holds no training run.
        MissingExtraError: plotly is not installed.
    """
    attributes = trial.user_attrs
    if "trace_loss" not in attributes:
        raise InvalidInputError(
            f"trial {trial.number} must hold a training run, got the attributes "
            f"{sorted(attributes)}; pass a trial of fisherbo.tune_training"
        )
    shown = {key: name for key, name in _MONITORED.items() if key in attributes}
    titles = [nats(metric) if key == "trace_loss" else name for key, name in shown.items()]
    figure = subplots(len(shown), 1, titles, shared_xaxes=True, vertical_spacing=0.1)
    for row, (key, colour) in enumerate(zip(shown, colours(len(shown)), strict=True), 1):
        points = _positive(attributes["trace_step"], attributes[key])
        figure.add_scatter(
            x=[x for x, _ in points], y=[y for _, y in points], name=shown[key],
            mode="lines+markers", marker={"size": 4}, line={"color": colour}, showlegend=False,
            row=row, col=1,
        )  # fmt: skip
    lay_out(figure, f"Training run of trial {trial.number}", height=160 + 220 * len(shown))
    figure.update_yaxes(type="log")
    figure.update_xaxes(title="steps", row=len(shown), col=1)
    return figure


def _positive(x: Sequence[Any], y: Sequence[Any]) -> list[tuple[float, float]]:
    """Pairs that have a place on a log axis."""
    return [(a, b) for a, b in zip(x, y, strict=True) if b is not None and b > 0]
