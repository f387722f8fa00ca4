"""What `fisherbo tune` makes of tables, by one command each and no preparation.

    python -m experiments.tables_to_models --write

Scikit-learn's bundled tables and those of `experiments.messy`, as CSV files. The scores are those
of the test rows that the command prints, with its 95 % intervals; the peers are scikit-learn's with
their default settings. ``predict``: whether `fisherbo predict`, in another process, on a CSV file
of the test rows, gives the score that was printed. Rows are kept in runs/tables_to_models.jsonl;
--again makes them anew.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.metrics import accuracy_score, r2_score

from experiments.harness import rows
from experiments.messy import TABLES
from fisherbo.tuning.data import load
from fisherbo.tuning.tables.supervised import Choices, prepare

NAME = "tables_to_models"
FOLDER = rows.RUNS / NAME
BUNDLED = ("iris", "wine", "diabetes", "breast_cancer", "digits")
CLOSE = 0.02


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
    return {
        "rows": sum(model["rows"].values()),
        "scores": model["test"],
        "network": f"{model['optimizer']} network",
        "seconds": round(seconds),
        "same": _same(cell, data, words, model),
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


def _same(cell: Cell, data: str, words: Sequence[str], model: dict[str, Any]) -> bool:
    """Whether the saved model, in a fresh process, scores as was told."""
    target = words[words.index("--target") + 1] if "--target" in words else None
    task = words[words.index("--task") + 1] if "--task" in words else None
    problem = prepare(load(data, target), task, Choices(), cell.seed)
    new, out = FOLDER / f"{cell.table}-test.csv", FOLDER / f"{cell.table}-predicted.csv"
    problem.frame.iloc[problem.split.test].to_csv(new, index=False)
    _fisherbo("predict", model["file"], "--data", str(new), "--out", str(out))
    predicted = pd.read_csv(out)[problem.target_name].to_numpy()
    truth = problem.target[problem.split.test]
    name = _metric(model["test"])
    if name == "accuracy":
        again = accuracy_score(np.array(problem.classes, dtype=str)[truth], predicted.astype(str))
    else:
        again = r2_score(truth, predicted)
    told = model["test"][f"{model['optimizer']} network"][name]["value"]
    return bool(abs(again - told) < 1e-6)


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
    for name in ("table", "rows", "score", "network", "", "logistic, ridge", "gradient boosting"):
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
            _cell(trees, metric),
            str(row["seconds"]),
            "same" if row["same"] else "DIFFERS",
        )
    console.print(table)
    count = len(found)
    console.print(
        f"at least logistic or ridge on {sum(gap >= 0 for gap in linear)} of {count} tables "
        f"(least difference {min(linear):+.3f}); within {CLOSE} of gradient boosting or above on "
        f"{sum(gap >= -CLOSE for gap in boosted)} (least difference {min(boosted):+.3f})",
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
    console = Console(record=True, width=150)
    report(found, console)
    if args.write:
        made_by = rows.command(NAME, argv)
        print(rows.write(console, NAME, "From tables to models", made_by))


if __name__ == "__main__":
    main()
