"""What `fisherbo tune` makes of tables, by one command each and no preparation.

    python -m experiments.tables_to_models --write

Scikit-learn's bundled tables and those of `experiments.messy`, as CSV files. The scores are those
of the test rows that the command prints, with its 95 % intervals; the peers are scikit-learn's with
their default settings. ``predict``: whether `fisherbo predict`, in another process, on a CSV file
of the test rows, gives the score that was printed. The lead over the linear peer is paired: its
95 % interval is of 4,000 resamples of the test rows. Rows are kept in
runs/tables_to_models.jsonl; --again makes them anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, r2_score

from experiments.harness import rows
from experiments.messy import TABLES
from fisherbo.tuning.data import load
from fisherbo.tuning.tables.baselines import Inputs, predictions
from fisherbo.tuning.tables.supervised import Choices, Supervised, fit, prepare

NAME = "tables_to_models"
FOLDER = rows.RUNS / NAME
BUNDLED = ("iris", "wine", "diabetes", "breast_cancer", "digits")
CLOSE = 0.02
RESAMPLES = 4000


@dataclass(frozen=True)
class Cell:
    table: str
    trials: int
    seed: int

    def key(self) -> str:
        """Names all settings."""
        return f"{self.table}/{self.trials}/{self.seed}"


def make(cell: Cell) -> rows.Row:
    """Run the two commands on one table; its scores, and whether they agree."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    data, words = _data(cell)
    database = FOLDER / f"{cell.table}.db"
    database.unlink(missing_ok=True)
    begun = time.perf_counter()
    told = _fisherbo(
        "tune", *words, "--trials", str(cell.trials), "--seed", str(cell.seed),
        "--storage", str(database), "-f", "json",
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    found = json.loads(told)
    model = found["model"]
    same, difference = _checked(data, words, model, cell)
    return {
        "rows": sum(model["rows"].values()),
        "scores": model["test"],
        "network": f"{model['optimizer']} network",
        "seconds": round(seconds),
        "same": same,
        "difference": difference,
    }


def _data(cell: Cell) -> tuple[str, list[str]]:
    """The data's name or file, and the command's words for it."""
    if cell.table not in TABLES:
        task = ["--task", "classification"] if cell.table == "digits" else []
        return cell.table, ["--data", cell.table, *task]
    frame, target = TABLES[cell.table](np.random.default_rng([cell.seed, len(cell.table)]))
    path = FOLDER / f"{cell.table}.csv"
    frame.to_csv(path, index=False)
    return str(path), ["--data", str(path), "--target", target]


def _checked(
    data: str, words: Sequence[str], model: dict[str, Any], cell: Cell
) -> tuple[bool, list[float]]:
    """Whether the saved model, in a fresh process, scores as was told, and its lead.

    The lead is that over the linear peer with its lower and upper end, by the same test rows.
    """
    target = words[words.index("--target") + 1] if "--target" in words else None
    task = words[words.index("--task") + 1] if "--task" in words else None
    problem = prepare(load(data, target), task, Choices(), cell.seed)
    new, out = FOLDER / f"{cell.table}-test.csv", FOLDER / f"{cell.table}-predicted.csv"
    problem.frame.iloc[problem.split.test].to_csv(new, index=False)
    _fisherbo("predict", model["file"], "--data", str(new), "--out", str(out))
    predicted = pd.read_csv(out)[problem.target_name].to_numpy()
    truth, peer = problem.target[problem.split.test], _linear(problem)
    score: Callable[[Any, Any], float] = r2_score
    if problem.classes:
        score = accuracy_score
        labels = {str(label): number for number, label in enumerate(problem.classes)}
        predicted = np.array([labels[word] for word in predicted.astype(str)])
    told = model["test"][f"{model['optimizer']} network"][_metric(model["test"])]["value"]
    rng = np.random.default_rng(cell.seed)
    drawn = rng.integers(len(truth), size=(RESAMPLES, len(truth)))
    leads = [score(truth[i], predicted[i]) - score(truth[i], peer[i]) for i in drawn]
    lead = score(truth, predicted) - score(truth, peer)
    ends = np.quantile(leads, [0.025, 0.975]).tolist()
    return bool(abs(score(truth, predicted) - told) < 1e-6), [lead, *ends]


def _linear(problem: Supervised) -> Any:
    """What the linear peer predicts of the test rows."""
    fitted = fit(problem, problem.split.fitted)
    test = problem.frame.iloc[problem.split.test]
    found = predictions(
        Inputs(fitted.x.numpy(), problem.frame.iloc[problem.split.fitted]),
        problem.target[problem.split.fitted],
        Inputs(fitted.encoder.transform(test), test),
        width=len(problem.classes),
        balanced=problem.balanced,
        seed=problem.seed,
    )
    peer = next(values for name, values in found if name.split()[0] in ("logistic", "ridge"))
    return peer.argmax(1) if problem.classes else peer


def _fisherbo(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fisherbo", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"fisherbo {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def _metric(scores: dict[str, Any]) -> str:
    return "accuracy" if "accuracy" in next(iter(scores.values())) else "R²"


def report(found: dict[Cell, rows.Row], console: Console) -> None:
    """Print the scores, and how many tables are as good as the peers."""
    table = Table(title="Test accuracy or R² (95 % interval) and, in classification, log loss")
    for name in (
        "table",
        "rows",
        "score",
        "network",
        "",
        "logistic, ridge",
        "lead",
        "gradient boosting",
    ):
        table.add_column(name, justify="left" if name == "table" else "right")
    table.add_column("seconds", justify="right")
    table.add_column("predict")
    linear, boosted, losses = [], [], []
    for cell, row in found.items():
        scores, metric = row["scores"], _metric(row["scores"])
        own = scores[row["network"]]
        line = next(scores[name] for name in scores if name.split()[0] in ("logistic", "ridge"))
        trees = scores["gradient boosting"]
        linear.append(own[metric]["value"] - line[metric]["value"])
        boosted.append(own[metric]["value"] - trees[metric]["value"])
        if "log loss" in own:
            losses.append(own["log loss"]["value"] - line["log loss"]["value"])
        table.add_row(
            cell.table,
            f"{row['rows']:,}",
            metric,
            _cell(own, metric),
            f"[{own[metric]['low']:.3f}, {own[metric]['high']:.3f}]",
            _cell(line, metric),
            "{:+.3f} [{:+.3f}, {:+.3f}]".format(*row["difference"]),
            _cell(trees, metric),
            str(row["seconds"]),
            "same" if row["same"] else "DIFFERS",
        )
    console.print(table)
    count = len(found)
    console.print(
        f"at least logistic or ridge on {sum(gap >= 0 for gap in linear)} of {count} tables "
        f"(least difference {min(linear):+.3f}), below it beyond chance on "
        f"{sum(row['difference'][2] < 0 for row in found.values())} and above on "
        f"{sum(row['difference'][1] > 0 for row in found.values())}; within {CLOSE} of "
        f"gradient boosting or above on {sum(gap >= -CLOSE for gap in boosted)} "
        f"(least difference {min(boosted):+.3f})",
        highlight=False,
    )
    if losses:
        console.print(
            f"log loss at most logistic's on {sum(gap <= 0 for gap in losses)} of {len(losses)} "
            f"tables of classes (largest difference {max(losses):+.4f})",
            highlight=False,
        )


def _cell(scores: dict[str, Any], metric: str) -> str:
    loss = f" ({scores['log loss']['value']:.3f})" if "log loss" in scores else ""
    return f"{scores[metric]['value']:.3f}{loss}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tables", nargs="+", default=[*BUNDLED, *TABLES])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="make all rows anew")
    parser.add_argument("--write", action="store_true", help="also to experiments/results")
    args = parser.parse_args(argv)
    cells = [Cell(name, args.trials, args.seed) for name in args.tables]
    found = rows.collect(NAME, cells, make, again=args.again)
    console = Console(record=True, width=170)
    report(found, console)
    if args.write:
        made_by = rows.command(NAME, argv)
        print(rows.write(console, NAME, "From tables to models", made_by))


if __name__ == "__main__":
    main()
