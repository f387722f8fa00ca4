"""The inputs of a network from a table: fitted on training rows, applied to any rows.

    number     median where missing, and a 0/1 column that says so; centred, scaled, cut at ±4
    date       days, and sine and cosine of the year, week and day where the rows span them
    category   one 0/1 column a level; of more than 20 levels the 20 most frequent, and the mean
               target of each level, shrunk (cross-fitted on the training rows)

scikit-learn fits it; what is kept are plain numbers and words, so that reading a saved model runs
no code of the file.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.names import listed
from fisherbo.tuning.tables.columns import Column
from fisherbo.tuning.tables.features import OTHER, WEEK, YEAR, Category, Feature, Number, days_of
from fisherbo.tuning.tables.values import Array, dates, words

if TYPE_CHECKING:
    import pandas as pd

MAX_LEVELS = 20
MIN_ROWS = 5  # of a level, or it is one of the others
MANY_ROWS = 200  # training rows from which rare levels are put together
MOST_CODES = 250  # scikit-learn's gradient boosting takes 255 levels


@dataclass(frozen=True, eq=False)
class Encoder:
    """The features of a table, fitted."""

    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the encoded columns."""
        return tuple(name for feature in self.features for name in feature.names)

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the table, that are read."""
        return tuple(dict.fromkeys(feature.column for feature in self.features))

    def transform(self, frame: pd.DataFrame) -> Array:
        """Scaled features (n, width) in float32."""
        return np.hstack([f.encoded(frame) for f in self.features]).astype(np.float32)

    def filled(self, frame: pd.DataFrame) -> Array:
        """Features (n, width) in their own units, in float64."""
        return np.hstack(
            [f.filled(frame) if isinstance(f, Number) else f.encoded(frame) for f in self.features]
        )

    def with_holes(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Features as gradient-boosted trees take them: NaN where missing, and categories."""
        import pandas as pd

        made: dict[str, Any] = {}
        for feature in self.features:
            if isinstance(feature, Number):
                made[feature.names[0]] = feature.raw(frame)
                continue
            levels = feature.levels
            if feature.means:
                levels = tuple(feature.means)[:MOST_CODES]
            read = feature.read(frame)
            made[feature.column] = pd.Categorical(
                np.where(np.isin(read, levels), read, OTHER), [*dict.fromkeys([*levels, OTHER])]
            )
        return pd.DataFrame(made)

    def require(self, frame: pd.DataFrame) -> None:
        """Pass if the rows are like those of the training.

        Warns of cells that are no numbers or dates, which are imputed.

        Raises:
            InvalidInputError: a column is missing, or none of its cells is of its kind.
        """
        there = {str(name) for name in frame.columns}
        gone = [name for name in self.columns if name not in there]
        if gone:
            raise InvalidInputError(
                f"the rows lack {listed(gone)}; give every column that the model was trained on: "
                f"{listed(self.columns)}"
            )
        for feature in self.features:
            if isinstance(feature, Number) and feature.part in ("", "days"):
                _require_read(feature, frame)

    def state(self) -> list[dict[str, Any]]:
        """All of it in plain types."""
        return [{"kind": type(f).__name__, **_plain(asdict(f))} for f in self.features]

    @classmethod
    def from_state(cls, state: Sequence[Mapping[str, Any]]) -> Encoder:
        """What `state` was of."""
        kinds: dict[str, Callable[..., Feature]] = {"Number": Number, "Category": Category}
        features = []
        for entry in state:
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
            features.append(kinds[str(values.pop("kind"))](**values))
        return cls(tuple(features))


def fit(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    target: Array | None,
    *,
    classes: bool,
    seed: int,
) -> tuple[Encoder, Array]:
    """The encoder of these rows, and the rows scaled, with the means of targets cross-fitted.

    Args:
        frame: training rows.
        columns: how they are read, as `examine` tells.
        target: class numbers or values (n,); None makes no means of targets.
        classes: whether the target is class numbers.
        seed: of the cross-fit.
    """
    used = [column for column in columns if column.kind != "left out"]
    bare = [part for column in used if column.kind != "category" for part in _parts(frame, column)]
    of_column: dict[str, list[Feature]] = {}
    for number in _fitted(frame, bare):
        of_column.setdefault(number.column, []).append(number)
    rows = {name: [f.encoded(frame) for f in found] for name, found in of_column.items()}
    for column in used:
        if column.kind == "category":
            category, encoded = _category(frame, column.name, target, classes, seed)
            of_column[column.name], rows[column.name] = [category], [encoded]
    features = tuple(feature for column in used for feature in of_column[column.name])
    matrix = np.hstack([block for column in used for block in rows[column.name]])
    return Encoder(features), matrix.astype(np.float32)


def _parts(frame: pd.DataFrame, column: Column) -> list[Number]:
    """What becomes of a column that is no category, before it is fitted."""
    if column.kind == "number":
        return [Number(column.name)]
    code = column.format or "ISO8601"
    days = days_of(dates(frame[column.name], code))
    days = days[~np.isnan(days)]
    span = np.ptp(days) if len(days) else 0.0
    parts = ["days"]
    if span > YEAR / 2:
        parts += ["year sin", "year cos"]
    if span > 2 * WEEK:
        parts += ["week sin", "week cos"]
    if (days != np.floor(days)).any():
        parts += ["day sin", "day cos"]
    return [Number(column.name, part, code) for part in parts]


def _fitted(frame: pd.DataFrame, bare: Sequence[Number]) -> list[Number]:
    """The numbers with their medians, centres and scales."""
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import StandardScaler

    if not bare:
        return []
    values = np.column_stack([number.raw(frame) for number in bare])
    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    scaler = StandardScaler().fit(imputer.fit_transform(values))
    holes = np.isnan(values).any(0)
    return [
        replace(
            number,
            median=float(imputer.statistics_[k]),
            holes=bool(holes[k]) and number.part in ("", "days"),
            centre=float(scaler.mean_[k]),
            scale=float(scaler.scale_[k]),
        )
        for k, number in enumerate(bare)
    ]


def _category(
    frame: pd.DataFrame, name: str, target: Array | None, classes: bool, seed: int
) -> tuple[Category, Array]:
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.preprocessing import OneHotEncoder, TargetEncoder

    bare = Category(name, (), {})
    read = bare.read(frame)[:, None]
    one_hot = OneHotEncoder(
        min_frequency=MIN_ROWS if len(read) >= MANY_ROWS else None,
        max_categories=MAX_LEVELS + 1,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
    ).fit(read)
    rare = one_hot.infrequent_categories_[0]
    rare = [] if rare is None else list(rare)
    levels = tuple(str(level) for level in one_hot.categories_[0] if level not in rare)
    if rare:
        levels = (*levels, OTHER)
    if len(one_hot.categories_[0]) <= MAX_LEVELS or target is None:
        category = Category(name, levels, {})
        return category, category.encoded(frame)
    kind = "continuous"
    if classes:
        kind = "binary" if len(np.unique(target)) == 2 else "multiclass"
    folds = (StratifiedKFold if classes else KFold)(5, shuffle=True, random_state=seed)
    encoder = TargetEncoder(target_type=kind, cv=folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rare classes are not in every fold
        crossed = encoder.fit_transform(read, target)
    overall = np.atleast_1d(encoder.target_mean_)
    per_level = np.column_stack(encoder.encodings_)
    centre, scale = crossed.mean(0), np.maximum(crossed.std(0), 1e-12)
    known = [str(level) for level in encoder.categories_[0]]
    counts = dict(zip(*np.unique(read[:, 0].astype(str), return_counts=True), strict=True))
    order = sorted(range(len(known)), key=lambda k: (-counts[known[k]], known[k]))
    means = {known[k]: _tuple((per_level[k] - centre) / scale) for k in order}
    category = Category(name, levels, means, _tuple((overall - centre) / scale))
    rows = category.encoded(frame)
    rows[:, -crossed.shape[1] :] = (crossed - centre) / scale
    return category, rows


def _require_read(feature: Number, frame: pd.DataFrame) -> None:
    """Warn of cells that are no numbers or dates, which are imputed; refuse a column of them."""
    cells = int(words(frame[feature.column]).notna().sum())
    read = int((~np.isnan(feature.raw(frame))).sum())
    what = "dates" if feature.part else "numbers"
    if cells and not read:
        raise InvalidInputError(
            f"column {feature.column!r} must hold {what}, got "
            f"{words(frame[feature.column]).dropna().iloc[0]!r}; write it as in training"
        )
    if read < cells:
        warnings.warn(
            f"column {feature.column!r}: {cells - read} of {cells} cells are no {what} and count "
            "as missing",
            UserWarning,
            stacklevel=5,
        )


def _tuple(values: Array) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
