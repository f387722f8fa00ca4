"""`fisherbo predict`: what a model of `fisherbo tune` says of the rows of a file."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from fisherbo.errors import InvalidInputError

if TYPE_CHECKING:
    import pandas as pd

    from fisherbo.tuning.tables.model import TableModel

HELP = "predict new rows with a model that tune made"
DESCRIPTION = (
    "Predict the rows of a file with a model that `fisherbo tune` saved. The file needs the "
    "columns that the model was trained on, in any order; others are not looked at."
)
EXAMPLES = """examples:
  fisherbo predict runs/houses-regression.pt --data new.csv
      one prediction a row, as CSV, on standard output
  fisherbo predict runs/wine-classification.pt --data new.csv --proba --out predicted.csv
      the classes and their probabilities, into a file
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="file that fisherbo tune saved")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="FILE", help="a .csv, .parquet or .npz file"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="CSV file to write (default: standard output)"
    )
    parser.add_argument(
        "--proba", action="store_true", help="add a column with the probability of each class"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run `fisherbo predict`."""
    from fisherbo.files import replacing, require_writable
    from fisherbo.tuning.data import read_rows
    from fisherbo.tuning.tables.model import load_model

    model = load_model(arguments.model)
    if arguments.proba and not model.classes:
        raise InvalidInputError(
            f"--proba is for classes, and {model.target!r} is a number; leave it out"
        )
    if arguments.out is not None:
        require_writable(arguments.out, "--out")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        found = _predicted(model, read_rows(arguments.data), arguments.proba)
    for warning in said:
        print(f"fisherbo: note: {warning.message}", file=sys.stderr)
    text = found.to_csv(index=False, lineterminator="\n")
    if arguments.out is None:
        sys.stdout.write(text)
        return 0
    with replacing(arguments.out, "choose another place with --out") as file:
        file.write(text.encode())
    return 0


def _predicted(model: TableModel, rows: pd.DataFrame, proba: bool) -> pd.DataFrame:
    import pandas as pd

    columns = {model.target: model.predict(rows)}
    if proba:
        probabilities = model.predict_proba(rows)
        columns |= {f"p({label})": probabilities[:, k] for k, label in enumerate(model.classes)}
    return pd.DataFrame(columns)
