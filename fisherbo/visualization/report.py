"""A summary of a study, and every figure that can be drawn from it."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fisherbo.errors import InvalidInputError
from fisherbo.sampler.next_trial import DESIGN, NextTrial, next_trial, rows, shown
from fisherbo.sampler.recommend import Recommendation
from fisherbo.sampler.sampler import FisherSampler
from fisherbo.visualization import page
from fisherbo.visualization.drawings import CAPTIONS, EXPERT, MODEL, drawings
from fisherbo.visualization.notation import PLAIN, Notation
from fisherbo.visualization.trial_table import trial_table

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


_DESIGNED = (
    "the first trials are spread over the search space, and are too few for a model; run more"
)


@dataclass(frozen=True)
class StudyReport:
    """A study's summary, figures and trials.

    Attributes:
        summary: Names and values, in JSON's types.
        figures: Figures by a short name.
        left_out: Figures that cannot be drawn, with the reason.
        trials: Rows of text: the column names, then one row for each trial.
        next: The next trial.
        value: What the value is called, with its unit.
        notation: How parameters are written.
    """

    summary: Mapping[str, Any]
    figures: Mapping[str, Figure]
    left_out: Mapping[str, str]
    trials: Sequence[Sequence[str]]
    next: NextTrial
    value: str = "objective value"
    notation: Notation = PLAIN

    def to_html(self) -> str:
        """One page that works offline."""
        reasons: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            reasons.setdefault(why, []).append(name)
        notes = [f"Not drawn: {', '.join(names)}, since {why}." for why, names in reasons.items()]
        return page.render(
            f"Study {self.summary['study']}",
            self._lead(),
            _results(self.summary),
            self.figures,
            notes,
            captions={name: CAPTIONS[name.rstrip("_0123456789")] for name in self.figures},
            folded=[name for name in self.figures if name.startswith(EXPERT)],
            before=self._next(),
            after=page.trials_section(self.trials),
        )

    def _lead(self) -> str:
        """What was tuned, and what to do next."""
        counts = [
            f"{count} {'failed' if state == 'fail' else state}"
            for state, count in self.summary["trials"].items()
        ]
        directions = self.summary["directions"]
        goals = [f"{directions[0]} the {self.value}"]
        if len(directions) > 1:
            goals = [f"{direction} objective {j}" for j, direction in enumerate(directions)]
        lead = f"Trials to {' and '.join(goals)}: {', '.join(counts)}. "
        if "pareto_front" in self.summary:
            return lead + "Choose one of the trials of the Pareto front by what matters to you."
        if isinstance(self.summary["recommended"], str):
            return lead + f"No trial is recommended yet: {self.summary['recommended']}."
        number = self.summary["recommended"]["number"]
        return lead + (
            f"Use the parameters of trial {number}, which the model expects to be the best; the "
            "best single value may be luck. Run more trials while the expected improvement "
            "below is worth their cost."
        )

    def _next(self) -> str:
        names = [self.value]
        if len(self.summary["directions"]) > 1:
            names = [f"objective {j}" for j in range(len(self.summary["directions"]))]
        coming = replace(self.next, params=self.notation.write(self.next.chosen), inactive=())
        table = page.table_of(rows(coming, names), name="next") if coming.params else ""
        reason = html.escape(self.next.reason)
        return (
            '<section class="card" aria-labelledby="next-title"><h2 id="next-title">Next trial</h2>'
            f"{table}<p>{reason}</p></section>"
        )

    def write_html(self, path: str | Path) -> None:
        """Write the page; the file is replaced in one step.

        Raises:
            StorageError: The file cannot be written.
        """
        page.write(self.to_html(), Path(path), "--output")

    def to_text(self) -> str:
        """The summary as text, one line for each name."""
        width = max(map(len, self.summary))
        return "\n".join(f"{name:<{width}}  {_text(v)}" for name, v in self.summary.items())

    def to_markdown(self) -> str:
        """The summary as a table in Markdown."""
        rows = [f"| {name} | {_text(value)} |" for name, value in self.summary.items()]
        return "\n".join(["| | |", "|---|---|", *rows])


def report(
    study: Study,
    sampler: FisherSampler | None = None,
    *,
    value: str = "objective value",
    notation: Notation = PLAIN,
) -> StudyReport:
    """The summary and the figures of a study, whichever sampler made it.

    Args:
        study: The study.
        sampler: Whose model is shown; the study's own, or a new `FisherSampler`, if None.
        value: What the value is called, with its unit.
        notation: How parameters are written, where the search has other names.

    Raises:
        InvalidInputError: The study has no complete trial.
        MissingExtraError: plotly is not installed.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        raise InvalidInputError(
            f"study {study.study_name!r} must have a complete trial, got none; run some first"
        )
    if sampler is None:
        own = study.sampler
        sampler = own if isinstance(own, FisherSampler) else FisherSampler(seed=0)
    figures, left_out = {}, {}
    coming = _next_trial(study, sampler)
    for name, draw in drawings(study, sampler, value).items():
        if not coming.expected and name.startswith(MODEL):
            left_out[name] = "the model is not used before the initial design is complete"
            continue
        try:
            figures[name] = notation.relabel(draw())
        except InvalidInputError as error:
            left_out[name] = str(error)
    summary = summarize(study, sampler, notation, designed=coming.reason == DESIGN)
    trials = trial_table(study, notation)
    return StudyReport(summary, figures, left_out, trials, coming, value, notation)


def _next_trial(study: Study, sampler: FisherSampler) -> NextTrial:
    try:
        return next_trial(study, sampler)
    except InvalidInputError as error:
        return NextTrial({}, (), f"No model can say where it goes: {error}.")


def summarize(
    study: Study, sampler: FisherSampler, notation: Notation = PLAIN, *, designed: bool = False
) -> dict[str, Any]:
    """Names and values that tell how a study stands, in JSON's own types.

    Args:
        study: The study.
        sampler: Whose model recommends a trial.
        notation: How parameters are written.
        designed: Whether the initial design goes on, so that there is no model to recommend one.
    """
    trials = study.get_trials(deepcopy=False)
    counts = Counter(trial.state.name.lower() for trial in trials)
    summary: dict[str, Any] = {
        "study": study.study_name,
        "directions": [direction.name.lower() for direction in study.directions],
        "trials": dict(sorted(counts.items())),
    }
    if len(study.directions) > 1:
        return summary | {"pareto_front": [_of(t, notation) for t in study.best_trials]}
    try:
        summary["best"] = _of(study.best_trial, notation)
        summary["recommended"] = (
            _DESIGNED if designed else _of_recommendation(sampler.recommend(study), notation)
        )
    except ValueError as error:  # Optuna's, where no trial is feasible, or ours
        summary["recommended"] = str(error)
    return summary


def _of(trial: FrozenTrial, notation: Notation) -> dict[str, Any]:
    values = list(trial.values)
    return {
        "number": trial.number,
        "value": values[0] if len(values) == 1 else values,
        "params": dict(notation.write(trial.params)),
    }


def _of_recommendation(found: Recommendation, notation: Notation) -> dict[str, Any]:
    return {
        "number": found.number,
        "value": found.value,
        "interval": [found.low, found.high],
        "params": dict(notation.write(found.params)),
    }


def _results(summary: Mapping[str, Any]) -> list[list[str]]:
    """The best and the recommended trial beside each other; of several objectives the front."""
    found = {name: summary[name] for name in ("best", "recommended") if name in summary}
    found = {name: trial for name, trial in found.items() if isinstance(trial, dict)}
    if "pareto_front" in summary:
        found = {f"trial {trial['number']}": trial for trial in summary["pareto_front"]}
        return _front(found)
    if not found:
        return [["", "value"], *([name, _text(value)] for name, value in summary.items())]
    params = dict.fromkeys(name for trial in found.values() for name in trial["params"])
    lines = [["", *found], ["trial", *(str(trial["number"]) for trial in found.values())]]
    lines.append(["value", *(shown(trial["value"], 4) for trial in found.values())])
    if "recommended" in found:
        ends = [shown(end, 4) for end in found["recommended"]["interval"]]
        lines.append(["95% interval", *([""] * (len(found) - 1)), " to ".join(ends)])
    for name in params:
        lines.append([name, *(shown(trial["params"].get(name, "")) for trial in found.values())])
    return lines


def _front(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A line a trial of the Pareto front: its values, and its parameters."""
    trials = list(found.values())
    params = dict.fromkeys(name for trial in trials for name in trial["params"])
    count = len(trials[0]["value"]) if trials else 0
    lines = [["Pareto front", *(f"objective {j}" for j in range(count)), *params]]
    for name, trial in found.items():
        chosen = [shown(trial["params"].get(parameter, "")) for parameter in params]
        lines.append([name, *(shown(value, 4) for value in trial["value"]), *chosen])
    return lines


def _text(value: Any) -> str:
    """A value of the summary, for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    if isinstance(value, list):
        return ", ".join(_text(part) for part in value)
    return shown(value)
