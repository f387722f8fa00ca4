import numpy as np
import pytest

from fisherbo.errors import InvalidInputError
from fisherbo.tuning.tables.splits import at_random, by_group, by_time


def parts(split):
    return [split.train, split.validation, split.test]


def test_parts_are_disjoint_seeded_and_hold_every_class_in_proportion():
    classes = np.array([0] * 500 + [1] * 100 + [2] * 10)
    split = at_random(classes, 610, seed=3)
    assert sorted(np.concatenate(parts(split))) == list(range(610))
    assert [np.bincount(classes[rows]).tolist() for rows in parts(split)] == [
        [300, 60, 6], [100, 20, 2], [100, 20, 2],
    ]  # fmt: skip
    assert np.array_equal(split.test, at_random(classes, 610, seed=3).test)
    assert not np.array_equal(split.test, at_random(classes, 610, seed=4).test)
    assert split.how == "at random, by class, seed 3"
    assert sorted(np.concatenate(split.parts)) == split.train.tolist()
    for training, validation in split.folds():
        assert np.bincount(classes[validation]).tolist() == [100, 20, 2]
        assert sorted([*training, *validation]) == split.fitted.tolist()
    assert np.array_equal(split.fitted, np.sort(np.concatenate(parts(split)[:2])))


@pytest.mark.parametrize("rare", [1, 2])
def test_classes_of_one_or_two_rows_are_trained_on(rare):
    classes = np.array([0] * 40 + [1] * 40 + [2] * rare)
    split = at_random(classes, len(classes), seed=0)
    assert (classes[split.train] == 2).sum() == rare
    for training, _ in split.folds():
        assert (classes[training] == 2).sum() == rare


def test_numbers_are_split_by_count():
    assert [len(rows) for rows in parts(at_random(None, 100, seed=0))] == [60, 20, 20]


def test_no_group_is_in_two_parts():
    groups = np.repeat([f"g{k}" for k in range(40)], np.arange(1, 41))
    split = by_group(groups, "who", seed=0)
    seen = [set(groups[rows]) for rows in parts(split)]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert [len(group) for group in seen] == [24, 8, 8]
    for training, validation in split.folds():
        assert not set(groups[training]) & set(groups[validation])
    with pytest.raises(InvalidInputError, match="--group who must have at least 5 groups, got 2"):
        by_group(np.array(["a", "b"] * 10), "who", seed=0)


def test_the_latest_rows_are_tested_on():
    times = np.random.default_rng(0).permutation(50).astype(float)
    split = by_time(times, "when")
    assert times[split.train].max() < times[split.validation].min()
    assert times[split.validation].max() < times[split.test].min()
    assert [len(rows) for rows in parts(split)] == [30, 10, 10]
    assert list(split.folds()) == []
    with pytest.raises(InvalidInputError, match="got 1 rows without"):
        by_time(np.array([1.0, np.nan, 2.0]), "when")
