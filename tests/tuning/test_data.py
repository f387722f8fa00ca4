import numpy as np
import pandas as pd
import pytest
import torch

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.data import BUNDLED, load

ROWS = {"digits": 1797, "breast_cancer": 569, "diabetes": 442, "wine": 178, "iris": 150}


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "area": rng.normal(size=20),
            "rooms": rng.integers(1, 5, size=20),
            "heating": ["gas", "oil"] * 10,
            "price": rng.normal(size=20),
        }
    )


def write(frame, folder, kind):
    path = folder / f"houses.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    return str(path)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_data_sets(name):
    table = load(name)
    assert len(table.features) == ROWS[name] == len(table.target)
    assert table.features.dtype == torch.float32
    assert len(table.feature_names) == table.features.shape[1]
    assert bool(table.labels) == (name != "diabetes")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_file_has_its_numbers_and_one_hot_text(frame, tmp_path, kind):
    table = load(write(frame, tmp_path, kind), "price")
    assert table.feature_names == ("area", "rooms", "heating=gas", "heating=oil")
    assert table.features[:, 2].tolist() == [1.0, 0.0] * 10
    np.testing.assert_allclose(table.features[:, 0], frame["area"], rtol=1e-6)
    np.testing.assert_allclose(table.target, frame["price"], rtol=1e-12)
    assert table.labels == ()


def test_text_target_becomes_class_numbers(frame, tmp_path):
    table = load(write(frame, tmp_path, "csv"), "heating")
    assert table.labels == ("gas", "oil")
    assert table.target.tolist() == [0.0, 1.0] * 10


def test_npz_takes_y_by_default_and_any_array_by_name(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, X=np.arange(24.0).reshape(12, 2), y=np.arange(12), z=np.ones(12))
    table = load(str(path))
    assert table.feature_names == ("X[0]", "X[1]", "z")
    assert table.target.tolist() == list(range(12))
    assert load(str(path), "z").feature_names == ("X[0]", "X[1]", "y")


def test_npz_with_arrays_of_different_lengths(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, X=np.zeros((12, 2)), y=np.arange(11))
    with pytest.raises(InvalidInputError, match="as many rows as each other, got X: 12, y: 11"):
        load(str(path))


def test_npz_with_pickles_is_refused(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, X=np.array([{}] * 12, dtype=object))
    with pytest.raises(InvalidInputError, match="not an NPZ file of plain arrays"):
        load(str(path))
