import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, r2_score

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.tables.scores import as_loss, metric_named, one, with_intervals

RNG = np.random.default_rng(0)


def test_classes_have_scikit_learns_scores_within_their_intervals():
    p = RNG.dirichlet([1, 1, 1], 300)
    classes = np.array([RNG.choice(3, p=row) for row in p])
    found = with_intervals(classes, p, classes=True)
    assert found["accuracy"].value == accuracy_score(classes, p.argmax(1))
    assert found["balanced accuracy"].value == balanced_accuracy_score(classes, p.argmax(1))
    assert found["log loss"].value == pytest.approx(log_loss(classes, p))
    for name, score in found.items():
        assert score.low < score.value < score.high
        assert one(name, classes, p, classes=True) == pytest.approx(score.value)
    a = found["accuracy"]
    half = 1.96 * np.sqrt(a.value * (1 - a.value) / 300)  # normal approximation of the binomial
    assert (a.high - a.low) / 2 == pytest.approx(half, rel=0.15)


def test_numbers_have_scikit_learns_scores_in_their_units():
    y = RNG.normal(100, 20, 400)
    predicted = y + RNG.normal(0, 5, 400)
    found = with_intervals(y, predicted, classes=False)
    assert found["RMSE"].value == pytest.approx(np.sqrt(np.mean((y - predicted) ** 2)))
    assert found["MAE"].value == pytest.approx(np.abs(y - predicted).mean())
    assert found["R²"].value == pytest.approx(r2_score(y, predicted))
    for name, score in found.items():
        assert score.low < score.value < score.high
        assert one(name, y, predicted, classes=False) == pytest.approx(score.value)
    half = 1.96 * np.abs(y - predicted).std() / 20
    assert (found["MAE"].high - found["MAE"].low) / 2 == pytest.approx(half, rel=0.15)


def test_intervals_are_of_the_score_with_rare_classes():
    classes = np.array([0] * 95 + [1] * 5)
    p = np.tile([0.9, 0.1], (100, 1))
    found = with_intervals(classes, p, classes=True)
    assert found["balanced accuracy"].value == 0.5
    assert np.isfinite([found["balanced accuracy"].low, found["balanced accuracy"].high]).all()


def test_two_rows_have_intervals_of_the_draws_that_have_scores():
    found = with_intervals(np.array([1.0, 2.0]), np.array([1.5, 1.5]), classes=False)
    assert (found["R²"].low, found["R²"].high) == (0.0, 0.0)
    assert np.isfinite([found["RMSE"].low, found["RMSE"].high]).all()


def test_a_certain_mistake_is_not_infinite():
    found = with_intervals(np.array([0, 1, 1]), np.array([[0.0, 1.0]] * 3), classes=True)
    assert np.isfinite(found["log loss"].value)


def test_metrics_by_name_are_minimised():
    assert metric_named("r2", "regression") == "R²"
    assert as_loss("R²", 0.7) == pytest.approx(0.3)
    assert as_loss("log loss", 0.7) == 0.7
    with pytest.raises(
        InvalidInputError, match=r"of a classification is one of accuracy, .*'rmse'"
    ):
        metric_named("rmse", "classification")
