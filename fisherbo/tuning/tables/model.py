"""A trained model of a table in one file: it reads frames as people have them and predicts.

The file is torch's zip archive of tensors, numbers and words. It is read with ``weights_only``,
which runs no code of the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from fisherbo.errors import InvalidInputError, MissingExtraError
from fisherbo.training import mlp
from fisherbo.training.checkpoint import load_checkpoint, save_atomically
from fisherbo.tuning.tables.encoder import Encoder
from fisherbo.tuning.tables.values import Array

if TYPE_CHECKING:
    import pandas as pd

KIND = "table model"
MAKER = "fisherbo tune"


@dataclass(frozen=True, eq=False)
class TableModel:
    """A network with the preprocessing of its inputs and the units of its target.

    Attributes:
        name: name of the data that it was trained on.
        target: name of the target column.
        classes: the labels, in the order of `predict_proba`; empty in regression.
        encoder: maps frames to inputs.
        network: maps inputs to logits, or to the scaled target.
        hidden: widths of its hidden layers.
        centre: centre of the target, in regression.
        scale: scale of the target, in regression.
        scores: scores on the test rows, by name: value and interval.
    """

    name: str
    target: str
    classes: tuple[Any, ...]
    encoder: Encoder
    network: nn.Module
    hidden: tuple[int, ...]
    centre: float = 0.0
    scale: float = 1.0
    scores: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a frame must have; others are ignored."""
        return self.encoder.columns

    def predict(self, frame: Any) -> Array:
        """Labels or numbers (n,) of the rows.

        Args:
            frame: a pandas or polars data frame, or a mapping from names to columns.

        Raises:
            InvalidInputError: it lacks a column, or one has cells of another kind.
        """
        if not self.classes:
            return self._output(frame)[:, 0].astype(np.float64) * self.scale + self.centre
        return _labels(self.classes)[self.predict_proba(frame).argmax(1)]

    def predict_proba(self, frame: Any) -> Array:
        """Probabilities (n, classes) of the rows.

        Raises:
            InvalidInputError: the model is a regression, or as `predict`.
        """
        if not self.classes:
            raise InvalidInputError(
                f"probabilities are for classes, and {self.target!r} is a number; use predict"
            )
        output = torch.from_numpy(self._output(frame)).double()
        return output.softmax(1).numpy()

    def _output(self, frame: Any) -> Array:
        rows = as_frame(frame)
        self.encoder.require(rows)
        return self.output(self.encoder.transform(rows))

    def output(self, encoded: Array) -> Array:
        """The network's outputs for encoded rows."""
        with torch.no_grad():
            return self.network(torch.from_numpy(encoded)).numpy()

    def save(self, path: str | Path) -> None:
        """Write the model to a file, completely or not at all.

        Raises:
            StorageError: the file cannot be written.
        """
        state = {
            "kind": KIND,
            "name": self.name,
            "target": self.target,
            "classes": list(self.classes),
            "encoder": self.encoder.state(),
            "network": self.network.state_dict(),
            "hidden": list(self.hidden),
            "centre": self.centre,
            "scale": self.scale,
            "scores": {name: list(values) for name, values in self.scores.items()},
        }
        save_atomically(state, Path(path))


def load_model(path: str | Path) -> TableModel:
    """The model of a file that `fisherbo tune` wrote.

    Raises:
        InvalidInputError: there is no such file, or it holds no model.
    """
    if not Path(path).is_file():
        raise InvalidInputError(
            f"no model at {path}: no such file; give one that fisherbo tune wrote"
        )
    state = load_checkpoint(Path(path), MAKER)
    if state.get("kind") != KIND:
        raise InvalidInputError(f"{path} is no model of {MAKER}; name another file")
    try:
        return _of_state(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidInputError(
            f"{path} is of another version of fisherbo, or damaged: {error}; make it anew with "
            f"{MAKER}"
        ) from error


def _of_state(state: Mapping[str, Any]) -> TableModel:
    encoder = Encoder.from_state(state["encoder"])
    network = mlp(len(encoder.names), state["hidden"], max(1, len(state["classes"])))
    network.load_state_dict(state["network"])
    return TableModel(
        name=state["name"],
        target=state["target"],
        classes=tuple(state["classes"]),
        encoder=encoder,
        network=network,
        hidden=tuple(state["hidden"]),
        centre=state["centre"],
        scale=state["scale"],
        scores={name: tuple(values) for name, values in state["scores"].items()},
    )


def as_frame(rows: Any) -> pd.DataFrame:
    """A pandas data frame of a frame or a mapping of columns.

    Raises:
        InvalidInputError: it is none.
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtraError("pandas", "sklearn") from error
    if hasattr(rows, "to_pandas"):
        rows = rows.to_pandas()
    if isinstance(rows, Mapping):
        rows = pd.DataFrame(dict(rows))
    if not isinstance(rows, pd.DataFrame):
        raise InvalidInputError(
            f"the rows must be a data frame or a mapping of columns, got {type(rows).__name__}"
        )
    return rows.rename(columns=str)


def _labels(classes: tuple[Any, ...]) -> Array:
    words = any(isinstance(label, str) for label in classes)
    return np.array(classes, dtype=object if words else None)
