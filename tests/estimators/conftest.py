import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris


@pytest.fixture(scope="session")
def iris():
    return load_iris(return_X_y=True)


@pytest.fixture(scope="session")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return X[:200], y[:200]


@pytest.fixture(scope="session")
def line():
    """A regression whose truth is known: y = 2 x0 − x1 + small noise."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    return X, 2 * X[:, 0] - X[:, 1] + 0.01 * rng.normal(size=120)
