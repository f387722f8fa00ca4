import math

import pytest
import torch

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.data import load
from fisherbo.tuning.table import Table
from fisherbo.tuning.tasks import entropy, make_task, scale_to_unit, split, standardise


def table(target, labels=()):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(target), 3, generator=generator)
    return Table("made", features, ("a", "b", "c"), torch.as_tensor(target).double(), labels)


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


def test_split_is_stratified_disjoint_and_seeded():
    groups = torch.tensor([0] * 50 + [1] * 10 + [2] * 2)
    train, held = split(groups, seed=3)
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(62))
    assert groups[held].bincount().tolist() == [10, 2, 1]
    assert torch.equal(held, split(groups, seed=3)[1])
    assert not torch.equal(held, split(groups, seed=4)[1])


def test_standardise_uses_the_training_rows_alone():
    train = torch.tensor([[0.0, 7.0], [2.0, 7.0]])
    assert standardise(torch.tensor([[4.0, 7.0]]), train).tolist() == [[3.0, 0.0]]


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
    assert (made.validation is None) == (task == "autoencoder")


def test_model_is_the_same_each_time():
    task = make_task(load("iris"), seed=5)
    first, second = task.build_model().state_dict(), task.build_model().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("target", "labels", "task", "message"),
    [
        (list(range(1000)), (), "classification", "1000 distinct values in 1000 rows"),
        ([0, 1] * 10 + [2], (), "classification", "class '2' has 1"),
        ([1] * 20, (), "classification", "2 to 100 classes, got 1"),
        ([1] * 20, (), "regression", "must be finite and vary"),
        ([0, 1] * 10, ("no", "yes"), "regression", "must be numbers, got the classes no, yes"),
    ],
)
def test_targets_that_do_not_suit(target, labels, task, message):
    with pytest.raises(InvalidInputError, match=message):
        make_task(table(target, labels), task)


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
    flat = Table("flat", torch.ones(12, 2), ("a", "b"), torch.arange(12.0))
    with pytest.raises(InvalidInputError, match="no feature varies"):
        make_task(flat, "regression")
