import json

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold
from sklearn.preprocessing import TargetEncoder

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.tables.columns import examine
from fisherbo.tuning.tables.encoder import Encoder, fit


def fitted(frame, target=None, classes=False, seed=0):
    return fit(frame, examine(frame), target, classes=classes, seed=seed)


@pytest.fixture
def messy():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": rng.normal(5, 2, 400),
            "when": (pd.Timestamp("2022-01-01") + pd.to_timedelta(rng.integers(0, 900, 400), "D"))
            .strftime("%d.%m.%Y"),
            "colour": rng.choice(["red", "green", "blue"], 400),
            "town": rng.choice([f"town {k}" for k in range(50)], 400),
        }
    )  # fmt: skip
    frame.loc[::7, "x"] = np.nan
    frame.loc[::9, "colour"] = None
    return frame


def test_numbers_are_filled_with_the_median_centred_scaled_and_cut():
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, np.nan, 8.5, 2.5]})
    encoder, rows = fitted(frame)
    filled = frame["x"].fillna(frame["x"].median())
    assert encoder.names == ("x", "x missing")
    np.testing.assert_allclose(rows[:, 0], (filled - filled.mean()) / filled.std(ddof=0), rtol=1e-5)
    assert rows[:, 1].tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0]
    assert encoder.transform(pd.DataFrame({"x": [1e9, -1e9]}))[:, 0].tolist() == [4.0, -4.0]


def test_dates_are_days_and_the_cycles_that_rows_span():
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=40, freq="7h")})
    encoder, _ = fitted(frame)
    assert encoder.names == (
        "when days", "when week sin", "when week cos", "when day sin", "when day cos",
    ) or encoder.names == ("when days", "when day sin", "when day cos")  # fmt: skip
    long = pd.DataFrame({"when": pd.date_range("2020-02-29", periods=30, freq="31D")})
    encoder, _ = fitted(long)
    assert encoder.names == (
        "when days", "when year sin", "when year cos", "when week sin", "when week cos",
    )  # fmt: skip
    days = encoder.filled(long)[:, 0]
    assert days[:2].tolist() == [18321.0, 18352.0]


def test_categories_have_a_column_a_level_one_if_there_are_two():
    frame = pd.DataFrame({"a": ["p", "q", "r"] * 5, "b": ["yes", "no", "yes"] * 5})
    encoder, rows = fitted(frame)
    assert encoder.names == ("a=p", "a=q", "a=r", "b=no")
    assert rows[:3].tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0]]
    unseen = encoder.transform(pd.DataFrame({"a": ["z"], "b": ["no"]}))
    assert unseen.tolist() == [[0, 0, 0, 1]]


def test_rare_levels_and_unseen_ones_are_one_level():
    words = ["common"] * 150 + ["usual"] * 97 + ["rare", "rarer", "rarest"]
    encoder, rows = fitted(pd.DataFrame({"a": words}))
    assert encoder.names == ("a=common", "a=usual", "a=(other)")
    assert rows.sum(0).tolist() == [150, 97, 3]
    assert encoder.transform(pd.DataFrame({"a": ["new"]})).tolist() == [[0, 0, 1]]


def test_many_levels_have_the_cross_fitted_mean_targets_of_scikit_learn(messy):
    target = np.random.default_rng(1).normal(size=400)
    encoder, rows = fitted(messy[["town"]], target, seed=3)
    folds = KFold(5, shuffle=True, random_state=3)
    peer = TargetEncoder(target_type="continuous", cv=folds)
    crossed = peer.fit_transform(messy[["town"]], target)
    np.testing.assert_allclose(
        rows[:, -1], ((crossed - crossed.mean(0)) / crossed.std(0))[:, 0], rtol=1e-4, atol=1e-5
    )
    new = pd.DataFrame({"town": ["town 3", "never seen"]})
    expected = (peer.transform(new) - crossed.mean(0)) / crossed.std(0)
    np.testing.assert_allclose(encoder.transform(new)[:, -1], expected[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_many_levels_of_a_table_of_classes(messy, n_classes):
    target = np.random.default_rng(1).integers(0, n_classes, 400)
    encoder, rows = fitted(messy, target, classes=True)
    means = [name for name in encoder.names if "mean target" in name]
    assert len(means) == (1 if n_classes == 2 else n_classes)
    assert rows.shape == (400, len(encoder.names))
    assert np.isfinite(rows).all()


def test_an_encoder_is_the_same_from_its_state_in_json(messy):
    encoder, _ = fitted(messy, np.arange(400.0))
    again = Encoder.from_state(json.loads(json.dumps(encoder.state())))
    assert again.names == encoder.names
    np.testing.assert_array_equal(again.transform(messy), encoder.transform(messy))


def test_a_category_is_read_alike_from_text_and_from_numbers():
    frame = pd.DataFrame({"code": ["1", "2", "A", "2", "1", "A"] * 4})
    encoder, _ = fitted(frame)
    text = encoder.transform(pd.DataFrame({"code": ["2", "1"]}))
    for column in ([2, 1], [2.0, 1.0]):
        assert encoder.transform(pd.DataFrame({"code": column})).tolist() == text.tolist()


def test_trees_get_holes_and_categories(messy):
    encoder, _ = fitted(messy, np.arange(400.0))
    frame = encoder.with_holes(messy)
    assert frame["x"].isna().sum() == messy["x"].isna().sum()
    assert set(frame["colour"].cat.categories) == {"red", "green", "blue", "(missing)", "(other)"}
    assert len(frame["town"].cat.categories) == 51


def test_rows_that_are_not_like_the_training(messy):
    encoder, _ = fitted(messy)
    with pytest.raises(InvalidInputError, match=r"the rows lack colour; give every column"):
        encoder.require(messy.drop(columns="colour"))
    with pytest.raises(InvalidInputError, match="column 'x' must hold numbers, got 'many'"):
        encoder.require(messy.assign(x="many"))
    with pytest.raises(InvalidInputError, match="column 'when' must hold dates, got '2022-01-01'"):
        encoder.require(messy.assign(when="2022-01-01"))
    some = messy.assign(x=messy["x"].astype(object))
    some.loc[1, "x"] = "many"
    with pytest.warns(UserWarning, match="column 'x': 1 of 342 cells are no numbers"):
        encoder.require(some)
