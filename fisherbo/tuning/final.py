"""The model that a user leaves with: trained again on all rows but the test, and tested once.

The best setting of each optimizer is trained on the training and validation rows and scored on the
test rows, which nothing was chosen by, beside what simple and strong peers score there. The model
that is kept is that of the optimizer whose best trial was best on the validation rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from torch import nn

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.batches import as_source
from fisherbo.tuning.result import TuningResult
from fisherbo.tuning.tables import baselines, supervised
from fisherbo.tuning.tables.model import TableModel
from fisherbo.tuning.tables.scores import Score, with_intervals
from fisherbo.tuning.tables.supervised import Supervised
from fisherbo.tuning.tables.values import Array
from fisherbo.tuning.tasks import Learned, Task, loss_of, network_of


@dataclass(frozen=True, eq=False)
class Final:
    """The kept model, and the scores of the test rows.

    Attributes:
        model: the kept model.
        optimizer: what it was trained by.
        scores: by name of the model or peer, then by name of the score.
        problem: the table.
        notes: how it was read and learned, in words.
    """

    model: TableModel
    optimizer: str
    scores: Mapping[str, Mapping[str, Score]]
    problem: Supervised
    notes: Sequence[str]

    @property
    def heading(self) -> str:
        """Title of the table of scores."""
        rows = len(self.problem.split.test)
        return f"{self.problem.target_name}: {rows} test rows, 95% intervals"

    @property
    def caption(self) -> str:
        """What to know of the table of scores."""
        return _caption(self.problem, list(next(iter(self.scores.values()))))

    def as_json(self) -> dict[str, Any]:
        """The scores and what was done to the rows, in JSON's own types."""
        split = self.problem.split
        return {
            "optimizer": self.optimizer,
            "rows": {
                "train": len(split.train),
                "validation": len(split.validation),
                "test": len(split.test),
            },
            "notes": list(self.notes),
            "test": {
                name: {metric: asdict(score) for metric, score in scores.items()}
                for name, scores in self.scores.items()
            },
        }


def finish(task: Task, results: Sequence[TuningResult]) -> Final:
    """Train the best settings again, and score them and the peers on the test rows.

    Args:
        task: of a table with a target.
        results: of studies of it that have a complete trial each, as `tune_training` made them.
    """
    assert task.learned is not None
    problem = task.learned.problem
    rows = problem.split.fitted
    fitted = supervised.fit(problem, rows)
    learned = replace(task.learned, fitted=fitted)
    test = problem.frame.iloc[problem.split.test]
    inputs, target = fitted.encoder.transform(test), problem.target[problem.split.test]
    models = {result.optimizer: _model(learned, _trained(learned, result)) for result in results}
    predicted = {
        f"{name} network": _predicted(problem, model.output(inputs), model)
        for name, model in models.items()
    }
    peers = baselines.predictions(
        baselines.Inputs(fitted.x.numpy(), fitted.encoder.with_holes(problem.frame.iloc[rows])),
        problem.target[rows],
        baselines.Inputs(inputs, fitted.encoder.with_holes(test)),
        width=len(problem.classes),
        balanced=problem.balanced,
        seed=problem.seed,
    )
    scores = {
        name: with_intervals(target, found, classes=bool(problem.classes), seed=problem.seed)
        for name, found in [*predicted.items(), *peers]
    }
    best = min(results, key=lambda result: result.best_value or 0.0).optimizer
    kept = {
        name: (score.value, score.low, score.high)
        for name, score in scores[f"{best} network"].items()
    }
    return Final(replace(models[best], scores=kept), best, scores, problem, task.notes)


def print_scores(final: Final, console: Console) -> None:
    """Print the table of the test rows' scores."""
    (_, *names), *lines = score_lines(final)
    table = Table(title=final.heading, caption=final.caption, caption_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(name)
    for line in lines:
        table.add_row(*line)
    console.print(table)


def score_lines(final: Final) -> list[list[str]]:
    """The scores of the test rows as text: a line of names, then one a model or peer."""
    names = list(next(iter(final.scores.values())))
    lines = [
        [model, *(_cell(scores[name]) for name in names)] for model, scores in final.scores.items()
    ]
    return [["", *names], *lines]


def _caption(problem: Supervised, names: Sequence[str]) -> str:
    units = f"{names[0]} and {names[1]} are in units of {problem.target_name}. "
    return (
        f"{'' if problem.classes else units}Networks and peers are trained on the same "
        f"{len(problem.split.fitted)} rows; the peers with scikit-learn's default settings, the "
        "linear one on the network's inputs."
    )


def _trained(learned: Learned, result: TuningResult) -> nn.Module:
    """The network of the best trial's setting, trained on all rows of the fit."""
    assert result.objective is not None
    if result.best_trial is None or result.run is None:
        raise InvalidInputError(f"{result.optimizer} has no complete trial; run more of them")
    setting = result.objective.setting
    batch = int(result.config.get("batch_size") or 0) or None
    objective = replace(
        result.objective,
        build_model=network_of(learned, setting.seed),
        training=as_source(
            (learned.fitted.x, learned.fitted.y), batch_size=batch, seed=setting.seed
        ),
        loss=loss_of(learned),
        measured=lambda _: 0.0,  # nothing is chosen any more
    )
    return objective.model(result.best_trial.params, result.run.steps)


def _model(learned: Learned, network: nn.Module) -> TableModel:
    problem, fitted = learned.problem, learned.fitted
    return TableModel(
        name=problem.name,
        target=problem.target_name,
        classes=problem.classes,
        encoder=fitted.encoder,
        network=network,
        hidden=learned.hidden,
        centre=fitted.centre,
        scale=fitted.scale,
    )


def _predicted(problem: Supervised, output: Array, model: TableModel) -> Array:
    if not problem.classes:
        return output[:, 0].astype(np.float64) * model.scale + model.centre
    shifted = np.exp(output.astype(np.float64) - output.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def _cell(score: Score) -> str:
    return f"{_number(score.value)} [{_number(score.low)}, {_number(score.high)}]"


def _number(value: float) -> str:
    return (
        f"{value:.3f}"
        if abs(value) < 10
        else f"{value:,.4g}"
        if abs(value) < 1e4
        else f"{value:,.0f}"
    )
