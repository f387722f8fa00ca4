"""Estimators for scikit-learn: a search over hyperparameters and networks trained by K-FAC."""

from importlib.util import find_spec

from fisherbo.errors import MissingExtraError

if find_spec("sklearn") is None:
    raise MissingExtraError("scikit-learn", "sklearn")

from fisherbo.estimators.networks import KFACClassifier, KFACRegressor
from fisherbo.estimators.search import FisherSearchCV

__all__ = ["FisherSearchCV", "KFACClassifier", "KFACRegressor"]
