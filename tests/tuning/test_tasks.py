import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.data import load
from fisherbo.tuning.table import Table
from fisherbo.tuning.tables.supervised import Choices
from fisherbo.tuning.tasks import entropy, make_task, scale_to_unit


def table(target):
    inputs = pd.DataFrame(np.random.default_rng(0).normal(size=(len(target), 3)), columns=[*"abc"])
    return Table("made", inputs, pd.Series(target, name="y"), "made.csv")


def test_entropy_of_digits_is_the_published_number():
    task = make_task(load("digits"))
    assert task.offset == pytest.approx(13.6577, abs=5e-5)
    assert task.target == 3.0
    assert task.name == "digits-autoencoder"


def test_loss_is_never_below_the_entropy():
    x = torch.rand(7, 4, dtype=torch.float64)
    task = make_task(load("digits"))
    perfect = torch.logit(x.clamp(1e-12, 1 - 1e-12))
    assert float(task.loss.function(perfect, x)) == pytest.approx(entropy(x), rel=1e-9)


def test_entropy_of_certain_pixels_is_zero():
    assert entropy(torch.tensor([[0.0, 1.0]])) == 0.0
    assert entropy(torch.full((3, 2), 0.5)) == pytest.approx(2 * math.log(2))


def test_scale_to_unit_leaves_unit_features_and_constants():
    unit = torch.tensor([[0.2, 1.0], [0.4, 0.0]])
    assert scale_to_unit(unit) is unit
    scaled = scale_to_unit(torch.tensor([[2.0, 5.0], [4.0, 5.0]]))
    assert scaled.tolist() == [[0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "task", "loss", "outputs"),
    [
        ("iris", "classification", "cross_entropy", 3),
        ("breast_cancer", "classification", "cross_entropy", 2),
        ("diabetes", "regression", "squared_error", 1),
        ("wine", "autoencoder", "bernoulli", 13),
    ],
)
def test_tasks_of_bundled_data(name, task, loss, outputs):
    made = make_task(load(name), None if task != "autoencoder" else task)
    assert (made.name, made.loss.name) == (f"{name}-{task}", loss)
    output = made.build_model()(made.train[0])
    assert output.shape[1] == outputs
    assert torch.isfinite(made.loss.function(output, made.train[1]))
    assert (made.learned is None) == (task == "autoencoder")
    if made.learned is not None:
        assert made.measure(made.build_model()) > 0


def test_the_metric_of_a_regression_is_in_the_targets_units():
    made = make_task(load("diabetes"))
    problem = made.learned.problem

    class Mean(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 1)

    rows = problem.target[problem.split.validation] - problem.target[problem.split.train].mean()
    assert made.metric == "validation RMSE"
    assert made.measure(Mean()) == pytest.approx(math.sqrt((rows**2).mean()), rel=1e-6)


def test_few_rows_are_learned_in_folds_unless_there_is_a_target_to_reach():
    made = make_task(load("iris"))
    assert len(made.folds) == 3
    assert "few rows: settings are chosen by 4-fold validation" in made.notes
    raced = make_task(load("iris"), target_loss=0.1)
    assert not raced.folds and "folds" not in "".join(raced.notes)
    assert make_task(load("iris"), "autoencoder").notes == []


def test_classes_weigh_alike_in_a_balanced_loss():
    target = np.array(["no"] * 90 + ["yes"] * 10)
    made = make_task(table(target), choices=Choices(balanced=True))
    assert made.loss.name == "balanced_cross_entropy"
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    common, rare = (float(made.loss.function(logits[:1], torch.tensor([k]))) for k in (0, 1))
    counts = np.bincount(made.train[1].numpy())
    both = float(made.loss.function(logits, torch.tensor([0, 1])))
    weights = 1 / counts
    assert both == pytest.approx((weights @ [common, rare]) / weights.sum(), rel=1e-5)


def test_model_is_the_same_each_time():
    task = make_task(load("iris"), seed=5)
    first, second = task.build_model().state_dict(), task.build_model().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("target", "task", "message"),
    [
        (list(range(1000)), "classification", "1000 distinct values in 1000 rows"),
        ([0] * 20 + [1, 2], "classification", "at least 2 classes need 3 rows"),
        ([1] * 20, "classification", "2 to 100 classes, got 1"),
        ([1] * 20, "regression", "must be finite and vary"),
        (["no", "yes"] * 10, "regression", "must be numbers, got the classes no, yes"),
        ([None] * 15 + [1.0] * 5, "regression", "at least 10 rows are needed, got 5"),
    ],
)
def test_targets_that_do_not_suit(target, task, message):
    with pytest.raises(InvalidInputError, match=message):
        make_task(table(target), task)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "clasification"}, "did you mean 'classification'"),
        ({"hidden": []}, "widths of at least 1"),
        ({"target_loss": -1.0}, "must be > 0, got -1.0"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(InvalidInputError, match=message):
        make_task(table([0, 1] * 10), **options)


def test_features_that_do_not_vary():
    flat = Table("flat", pd.DataFrame({"a": [1.0] * 12}), pd.Series(np.arange(12.0)), "flat.csv")
    with pytest.raises(InvalidInputError, match=r"no feature column is left.*a \(constant\)"):
        make_task(flat, "regression")
