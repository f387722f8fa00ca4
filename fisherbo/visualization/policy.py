"""A policy's learning curve, and a page of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fisherbo.rl.learning_curve import WINDOW, moving_mean, solved, spread
from fisherbo.rl.rollout import Episode
from fisherbo.visualization.page import render, table_of
from fisherbo.visualization.style import colours, goal_line, graph_objects, lay_out

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_CAPTION = (
    "Each dot is an episode of training, in which the policy still explores: its return is the sum "
    "of its rewards, not discounted. The line is the mean of the last {window} episodes. A policy "
    "that learns rises; what it reaches without further learning is the evaluation in the table."
)


def plot_learning_curve(episodes: Sequence[Episode], *, threshold: float | None = None) -> Figure:
    """Figure of the returns of training episodes against steps, with their moving mean.

    Args:
        episodes: In the order in which they ended.
        threshold: Return at which the environment is solved, to draw as a horizontal line.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    figure = graph_objects().Figure()
    (colour,) = colours(1)
    steps = [episode.step for episode in episodes]
    figure.add_scatter(
        x=steps, y=[episode.value for episode in episodes], name="episode", mode="markers",
        marker={"color": colour, "size": 4, "opacity": 0.5},
    )  # fmt: skip
    figure.add_scatter(
        x=steps, y=moving_mean(episodes).tolist(), name=f"mean of the last {WINDOW}",
        mode="lines", line={"color": colour, "width": 2},
    )  # fmt: skip
    lay_out(figure, "Returns of training episodes", "steps of all environments")
    figure.update_yaxes(title="return")
    if threshold is not None:
        goal_line(figure, threshold, f"solved: {threshold:g}", yanchor="top")
    return figure


def policy_page(
    name: str,
    episodes: Sequence[Episode],
    evaluation: Sequence[float],
    settings: Mapping[str, Any],
    *,
    threshold: float | None = None,
    solved_at: int | None = None,
) -> str:
    """HTML page of a training run: its learning curve, what the policy reaches, and its settings.

    Args:
        name: Of the environment.
        episodes: Of training.
        evaluation: Returns of the policy's episodes without learning.
        settings: Of the run, with its algorithm; they are listed at the end.
        threshold: Return at which the environment is solved.
        solved_at: Steps when it was; ``None`` if it was not.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    rows = [["", "return"], ["evaluation", spread(evaluation)]]
    if episodes:
        last = [episode.value for episode in episodes[-WINDOW:]]
        rows.append([f"last {len(last)} episodes of training", spread(last)])
    rows.append(["solved", solved(threshold, solved_at)])
    figures, captions = {}, {}
    if episodes:
        figures["learning_curve"] = plot_learning_curve(episodes, threshold=threshold)
        captions["learning_curve"] = _CAPTION.format(window=WINDOW)
    lead = (
        "The evaluation is of whole episodes of the policy at the end, which does not learn in "
        "them and takes its most likely actions. Returns of training are of policies that "
        "explore, and are usually lower."
    )
    chosen = [["setting", "value"], *([key, str(value)] for key, value in settings.items())]
    after = f"<h2>Settings</h2>{table_of(chosen)}"
    return render(f"Policy for {name}", lead, rows, figures, captions=captions, after=after)
