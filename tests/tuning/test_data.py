import numpy as np
import pandas as pd
import pytest

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
    assert len(table.inputs) == ROWS[name] == len(table.target)
    assert table.target.name == "target"
    assert (table.target.dtype.kind == "O" or table.target.dtype == "str") == (
        name not in ("diabetes", "digits")
    )


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_file_has_its_columns_as_they_are(frame, tmp_path, kind):
    table = load(write(frame, tmp_path, kind), "price")
    assert list(table.inputs.columns) == ["area", "rooms", "heating"]
    assert table.inputs["heating"].tolist() == ["gas", "oil"] * 10
    np.testing.assert_allclose(table.inputs["area"], frame["area"], rtol=1e-12)
    np.testing.assert_allclose(table.target, frame["price"], rtol=1e-12)


def test_npz_takes_y_by_default_and_any_array_by_name(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, X=np.arange(24.0).reshape(12, 2), y=np.arange(12), z=np.ones(12))
    table = load(str(path))
    assert list(table.inputs.columns) == ["X[0]", "X[1]", "z"]
    assert table.target.tolist() == list(range(12))
    assert list(load(str(path), "z").inputs.columns) == ["X[0]", "X[1]", "y"]


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
